// The package with the price list, loaded when it is first needed: it is large, and whoever never prices anything does without.

import type * as PriceList from '@pydantic/genai-prices'
import { GENAI_PRICES_VERSION } from './price-list.ts'

/** @throws {Error} When the package is not installed. */
export async function importList(): Promise<typeof PriceList> {
  try {
    return await import('@pydantic/genai-prices')
  } catch (cause) {
    throw new Error('The price list could not be loaded. Run: npm install @pydantic/genai-prices@' + GENAI_PRICES_VERSION, { cause })
  }
}
