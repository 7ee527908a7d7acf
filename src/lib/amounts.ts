// Amounts are integers everywhere inside: tokens, calls, counters, and nano-USD (1e-9 USD) for money.
// The public API takes dollars as a number or a decimal string and converts here, once and exactly.

/** Amounts by dimension, such as `{ usd: 1_500_000, tokens: 1200, calls: 1 }`; `usd` in nano-USD. */
export type Amounts = Readonly<Record<string, number>>

/** The amount of a dimension, 0 where there is none. A dimension may have the name of something that every object has. */
export function amountOf(amounts: Amounts, dimension: string): number {
  return Object.hasOwn(amounts, dimension) ? amounts[dimension]! : 0
}

/** The same dimensions with nothing in them. */
export function zeroed(amounts: Amounts): Amounts {
  return Object.fromEntries(Object.keys(amounts).map((dimension) => [dimension, 0]))
}

/** Whether no dimension has anything. */
export function isNothing(amounts: Amounts): boolean {
  return Object.values(amounts).every((amount) => amount === 0)
}

/** Largest amount a counter can hold: 2^53 - 1, which is 9,007,199.25 USD in nano-USD. */
export const MAX_AMOUNT: number = Number.MAX_SAFE_INTEGER

/**
 * Throws unless `value` is a whole number from 0 to 2^53 - 1.
 *
 * @throws {TypeError} When it is not a number, or not a whole one.
 * @throws {RangeError} When it is negative, infinite or too large.
 */
export function assertAmount(name: string, value: unknown): asserts value is number {
  if (typeof value !== 'number' || Number.isNaN(value)) {
    // Not every object can be written as text.
    const got = value === Object(value) ? '' : `\`${String(value)}\` `
    throw new TypeError(`Expected \`${name}\` to be a whole number, got ${got}(${typeof value}).`)
  }
  if (value < 0 || value > MAX_AMOUNT) throw new RangeError(`Expected \`${name}\` to be from 0 to ${MAX_AMOUNT}, got \`${value}\`.`)
  if (!Number.isInteger(value)) throw new TypeError(`Expected \`${name}\` to be a whole number, got \`${value}\`.`)
}

/** Throws unless every amount is a whole number from 0 to 2^53 - 1. */
export function assertAmounts(name: string, amounts: Amounts): void {
  for (const [dimension, amount] of Object.entries(amounts)) {
    // The name is only put together for the message: this stands in the way of every action.
    if (!Number.isSafeInteger(amount) || amount < 0) assertAmount(`${name}.${dimension}`, amount)
  }
}

const DECIMAL = /^(\d+)(?:\.(\d+))?$/
/** Longest decimal that is read from a string. A number is never longer than some 340 digits. */
const MAX_DECIMAL_LENGTH = 64

/** Splits a non-negative decimal into its digits and the power of ten they stand on; exact. */
export function parseDecimal(name: string, value: number | string): { digits: bigint; scale: number } {
  if (typeof value !== 'number' && typeof value !== 'string')
    throw new TypeError(`Expected \`${name}\` to be a number or a decimal string, got ${typeof value}.`)
  if (typeof value === 'number' && Number.isNaN(value)) throw new TypeError(`Expected \`${name}\` to be a number, got \`NaN\`.`)
  if (typeof value === 'number' && (value < 0 || !Number.isFinite(value)))
    throw new RangeError(`Expected \`${name}\` to be a finite number >= 0, got \`${value}\`.`)
  const text = typeof value === 'number' ? plainDecimal(value) : value
  const match = typeof value === 'string' && value.length > MAX_DECIMAL_LENGTH ? null : DECIMAL.exec(text)
  if (match === null)
    throw new TypeError(`Expected \`${name}\` to be a decimal such as '0.50', got \`${text.slice(0, MAX_DECIMAL_LENGTH)}\`.`)
  const fraction = match[2] ?? ''
  return { digits: BigInt(match[1]! + fraction), scale: fraction.length }
}

/** The shortest decimal that reads back as this number, without an exponent: 1e-7 is '0.0000001'. */
function plainDecimal(value: number): string {
  const text = String(value)
  const match = /^(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text)
  if (match === null) return text
  const digits = match[1]! + (match[2] ?? '')
  const exponent = Number(match[3])
  if (exponent < 0) return `0.${'0'.repeat(-exponent - 1)}${digits}`
  return digits.padEnd(exponent + 1, '0')
}

/**
 * Converts US dollars to nano-USD, exactly.
 *
 * @throws {RangeError} Beyond 9,007,199 USD, or with more than nine decimals: that is finer than a nano-USD.
 */
export function toNanoUsd(name: string, usd: number | string): number {
  const { digits, scale } = parseDecimal(name, usd)
  const scaled = scale <= 9 ? digits * 10n ** BigInt(9 - scale) : digits / 10n ** BigInt(scale - 9)
  if (scale > 9 && scaled * 10n ** BigInt(scale - 9) !== digits)
    throw new RangeError(`Expected \`${name}\` to have at most nine decimals (1 nano-USD), got \`${usd}\`.`)
  if (scaled > BigInt(MAX_AMOUNT)) throw new RangeError(`Expected \`${name}\` to be at most 9007199.254740991 USD, got \`${usd}\`.`)
  return Number(scaled)
}

/** Writes nano-USD as dollars: `1_500_000_000` is `$1.50`; never fewer than two decimals, never rounded. */
export function formatUsd(nanoUsd: number): string {
  const sign = nanoUsd < 0 ? '-' : ''
  const absolute = BigInt(Math.abs(nanoUsd))
  const whole = absolute / 1_000_000_000n
  const fraction = (absolute % 1_000_000_000n)
    .toString()
    .padStart(9, '0')
    .replace(/0{1,7}$/, '')
  return `${sign}$${whole}.${fraction}`
}

/** Writes an amount of a dimension for a person: dollars for `usd`, digits for the rest. */
export function formatAmount(dimension: string, amount: number): string {
  return dimension === 'usd' ? formatUsd(amount) : amount.toLocaleString('en-US')
}
