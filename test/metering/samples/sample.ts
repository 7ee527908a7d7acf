// What a sample is: the shape of an answer, typed from a provider's public documentation at the address beside it. The
// fields are the documentation's; numbers are examples, chosen so that every part counts. None is a recording.

import type { UsageEndpoint } from '../../../src/metering/usage/readers.ts'
import type { Usage } from '../../../src/waist/price.ts'

/** One documented answer, what it used, and what that costs. */
export interface Sample {
  readonly name: string
  /** Address of the documentation, and the day it was looked up. */
  readonly source: string
  readonly seen: string
  readonly reader: UsageEndpoint
  readonly answer: object
  /** What it used; buckets that are not here are 0. */
  readonly used: Partial<Usage>
  /** The provider's own total of tokens, where it gives one. */
  readonly total?: number
  /** Its cost by hand, in pico-USD: tokens times the price of a token. Absent where the list has no price for it. */
  readonly bill?: { readonly model: string; readonly provider: string; readonly pico: bigint }
}

/** Pico-USD for so many tokens, at US dollars per million. */
export function perMillion(tokens: number, usd: string): bigint {
  const [whole, fraction = ''] = usd.split('.')
  return BigInt(tokens) * BigInt(`${whole}${fraction.padEnd(6, '0')}`)
}
