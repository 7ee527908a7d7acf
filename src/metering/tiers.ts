// Service tiers, as far as they decide a price.

/** Tiers at the standard price. `on_demand` is Groq's name for it, `standard_only` Anthropic's in a request. */
export const STANDARD_TIERS: ReadonlySet<string> = new Set(['', 'auto', 'default', 'standard', 'on_demand', 'standard_only'])

/** Tiers at a discount: never dearer than the standard price. */
export const CHEAPER_TIERS: ReadonlySet<string> = new Set(['flex', 'batch'])
