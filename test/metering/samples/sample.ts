// What a sample is: the shape of an answer, typed from public documentation at the address beside it: the provider's own, or
// that of a client generated from the provider's description of its API. The fields are the documentation's; numbers are
// examples, chosen so that every part counts. None is a recording.

import type { UsageEndpoint } from '../../../src/metering/usage/readers.ts'
import type { Usage } from '../../../src/waist/price.ts'

/** One documented answer, what it used, and what that costs. */
export interface Sample {
  readonly name: string
  /** Address of the documentation. */
  readonly source: string
  /** The day it was looked up; absent where it could not be, and the shape is typed from what is commonly known of it. */
  readonly seen?: string
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
