// The usage of an answer that is billed by another measure than tokens.

import { NOTHING_USED } from '../../src/metering/usage/totals.ts'
import type { Usage } from '../../src/waist/price.ts'

/** A usage without a token: `{ images: 2 }`. `undefined` for a count that is none, since an answer cannot use nothing. */
export function unitUsage(units: NonNullable<Usage['units']>): Usage | undefined {
  if (!Object.values(units).every((count) => Number.isSafeInteger(count) && count > 0)) return undefined
  return { ...NOTHING_USED, units }
}
