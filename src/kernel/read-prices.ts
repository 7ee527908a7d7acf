// A file of prices of your own, for `openKernel({ prices: await readPrices('holdfast.prices.json') })`.

import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { editionOf, parsePriceFile } from '../metering/price-file.ts'
import type { PriceOverride } from '../metering/prices.ts'

/**
 * Reads a price file, such as `holdfast prices set` writes, and checks every price in it. The records of calls that are
 * settled with one of them name the file and its version: `override holdfast.prices.json@3 2026-11-20`.
 *
 * @throws {TypeError | RangeError} For a file that is none, naming the field.
 * @throws {Error} `ENOENT` and the like, when it cannot be read.
 */
export async function readPrices(path: string): Promise<Readonly<Record<string, PriceOverride>>> {
  return editionOf(parsePriceFile(await readFile(path, 'utf8'), path), basename(path))
}
