// The price file of the command line: read if it is there, and replaced in one step.

import {
  closeSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { editionOf, formatPriceFile, parsePriceFile, type PriceFile } from '../metering/price-file.ts'
import { loadPrices, type PriceOverride } from '../metering/prices.ts'
import type { Prices } from '../waist/price.ts'

const DEFAULT_FILE = 'holdfast.prices.json'

/** Adds `--file` to a command. */
export function withPriceFile(command: Command): Command {
  return command.option('--file <file>', 'your own prices', DEFAULT_FILE)
}

/** Path of the price file that a command was given, or of the usual one. */
export const priceFileOf = (command: Command): string => command.opts<{ file: string }>().file

/**
 * The price file of a command; `undefined` where none was named and the usual one is not there.
 *
 * @throws {Error} `ERR_PRICE_FILE` for one that is none, naming the field; `ENOENT` for a named one that is not there.
 */
export function readOwnPrices(command: Command): PriceFile | undefined {
  const path = priceFileOf(command)
  if (command.getOptionValueSource('file') === 'default' && !existsSync(path)) return undefined
  return readPriceFile(path)
}

/** @throws {Error} As {@link readOwnPrices}. */
export function readPriceFile(path: string): PriceFile {
  const text = readFileSync(path, 'utf8')
  try {
    return parsePriceFile(text, path)
  } catch (cause) {
    throw Object.assign(new Error((cause as Error).message, { cause }), { code: 'ERR_PRICE_FILE' })
  }
}

/** Your prices, and the list behind them, as a kernel would find them. */
export async function pricesOf(
  command: Command,
): Promise<{ readonly prices: Prices; readonly own: Readonly<Record<string, PriceOverride>> }> {
  const file = readOwnPrices(command)
  const own = file === undefined ? {} : editionOf(file, basename(priceFileOf(command)))
  return { prices: await loadPrices({ overrides: own }), own }
}

/**
 * Replaces the price of a model in a file, or makes the file. Whoever reads it sees the old one or the new one; a crash
 * leaves the old one.
 *
 * @throws {Error} `ERR_PRICE_FILE`, also while another change is under way.
 */
export function setPrice(path: string, model: string, price: PriceOverride): PriceFile {
  const target = existsSync(path) ? realpathSync(path) : path
  const next = `${target}.new`
  const descriptor = openNew(next)
  try {
    // Looked at under the protection of the new file: nobody else changes it meanwhile.
    const there = existsSync(target)
    if (there) fchmodSync(descriptor, statSync(target).mode & 0o777)
    const { version, prices } = there ? readPriceFile(target) : { version: 0, prices: {} }
    const changed: PriceFile = { format: 1, version: version + 1, prices: { ...prices, [model]: price } }
    writeSync(descriptor, formatPriceFile(changed))
    fsyncSync(descriptor)
    renameSync(next, target)
    return changed
  } catch (error) {
    unlinkSync(next)
    throw error
  } finally {
    closeSync(descriptor)
  }
}

function openNew(path: string): number {
  try {
    return openSync(path, 'wx')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    const message = `\`${path}\` is there: another change is under way, or one has died. If none is, remove it.`
    throw Object.assign(new Error(message, { cause }), { code: 'ERR_PRICE_FILE' })
  }
}
