// Prices of your own as a JSON file: what it looks like, and how it is checked. Who reads and writes it is elsewhere.

import { readOverride, type PriceOverride } from './override.ts'

/** What a price file holds. */
export interface PriceFile {
  readonly format: 1
  /** Rises with every change; the audit chain names it with each price. */
  readonly version: number
  /** By model, as `openKernel({ prices })` takes them. */
  readonly prices: Readonly<Record<string, PriceOverride>>
}

/** Longest price file, in UTF-16 code units. */
export const MAX_PRICE_FILE_LENGTH = 4_194_304

/**
 * Reads the text of a price file, and checks every price in it.
 *
 * @param name - What to call it in messages.
 * @throws {TypeError | RangeError} Naming the file and the field.
 */
export function parsePriceFile(text: string, name: string): PriceFile {
  const fault = (what: string): TypeError => new TypeError(`The price file \`${name}\` ${what}.`)
  if (text.length > MAX_PRICE_FILE_LENGTH) throw fault(`is longer than ${MAX_PRICE_FILE_LENGTH} characters`)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The error of the parser would quote the file.
    throw fault('is not JSON')
  }
  if (!isObject(parsed)) throw fault('must be an object such as { "format": 1, "version": 1, "prices": {} }')
  const { format, version, prices, ...more } = parsed
  if (typeof format === 'number' && format > 1) throw fault(`has format ${format}, and this version of holdfast reads 1`)
  if (format !== 1) throw fault('must have `format: 1`')
  if (!Number.isSafeInteger(version) || (version as number) < 1) throw fault('must have a `version`, a whole number from 1')
  if (!isObject(prices)) throw fault('must have `prices`, an object of prices by model')
  const unknown = Object.keys(more)[0]
  if (unknown !== undefined) throw fault(`has an unknown field \`${unknown}\``)
  for (const [model, price] of Object.entries(prices)) checkPrice(name, model, price)
  return { format: 1, version: version as number, prices: prices as PriceFile['prices'] }
}

/** The text of a price file; the same prices always have the same text. */
export function formatPriceFile({ version, prices }: Pick<PriceFile, 'version' | 'prices'>): string {
  const sorted = Object.fromEntries(Object.entries(prices).sort(([a], [b]) => (a < b ? -1 : 1)))
  return `${JSON.stringify({ format: 1, version, prices: sorted }, null, 2)}\n`
}

/**
 * The prices of a file as `openKernel({ prices })` takes them, each with the edition it comes from.
 *
 * @param name - Name of the file, for the record.
 */
export function editionOf({ version, prices }: PriceFile, name: string): Readonly<Record<string, PriceOverride>> {
  const edition = `${name.slice(0, 64).toWellFormed()}@${version}`
  return Object.fromEntries(Object.entries(prices).map(([model, price]) => [model, { version: edition, ...price }]))
}

function checkPrice(name: string, model: string, price: unknown): void {
  try {
    readOverride(model, price as PriceOverride)
  } catch (error) {
    if (!(error instanceof TypeError) && !(error instanceof RangeError)) throw error
    const message = `The price file \`${name}\`: ${error.message}`
    throw error instanceof RangeError ? new RangeError(message, { cause: error }) : new TypeError(message, { cause: error })
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
