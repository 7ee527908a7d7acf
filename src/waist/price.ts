// What was used, and what it costs, as types: metering reads and computes them, scopes hand them on.

/**
 * What one call used. The token buckets are disjoint: `inputTokens` has neither cached nor audio tokens in
 * it, `outputTokens` neither reasoning nor audio. All are whole numbers from 0 to 2^53 - 1.
 */
export interface Usage {
  readonly inputTokens: number
  readonly cacheReadTokens: number
  /** Written to a short-lived cache: five minutes at Anthropic, 30 minutes at OpenAI. */
  readonly cacheWrite5mTokens: number
  /** Written to a long-lived cache: one hour at Anthropic, twelve at OpenAI. */
  readonly cacheWrite1hTokens: number
  readonly outputTokens: number
  readonly reasoningTokens: number
  /** Cached or not: providers say how much audio there was, and not always how much of it was cached. */
  readonly inputAudioTokens: number
  readonly outputAudioTokens: number
  /** Calls of hosted tools that may carry a fee, such as `{ web_search: 2 }`. */
  readonly toolCalls: Readonly<Record<string, number>>
}

/** A bucket of {@link Usage} that counts tokens. */
export type TokenBucket = Exclude<keyof Usage, 'toolCalls'>

/** A price per token in pico-USD; a tier replaces it for the whole request once its input exceeds `above` tokens. */
export interface Rate {
  readonly pico: bigint
  /** Ascending by `above`. */
  readonly tiers: readonly { readonly above: number; readonly pico: bigint }[]
}

/** What is charged for one call. */
export interface Rates {
  /** By bucket of {@link Usage}. A bucket without a rate cannot be priced, which is not the same as free. */
  readonly tokens: Readonly<Partial<Record<TokenBucket, Rate>>>
  /** Pico-USD for each request, whatever it uses. */
  readonly request: bigint
  /** Pico-USD for one call of a hosted tool, by its name in {@link Usage.toolCalls}. */
  readonly tools: Readonly<Record<string, bigint>>
}

/** The price of a model. */
export interface ModelPrice {
  /** Where it comes from, for the record: `genai-prices 0.1.8 openai/gpt-4o` or `override 2026-11-20`. */
  readonly source: string
  /** In force now; what a call is settled at. */
  readonly rates: Rates
  /** The dearest of the next 24 hours, where the price depends on the hour or changes with a date; what a call is held at. */
  readonly dearest?: Rates
  /** Tokens of input and output together. */
  readonly contextWindow?: number
  /** Tokens of output in one answer. */
  readonly maxOutputTokens?: number
}

/** Where prices are looked up. */
export interface Prices {
  /**
   * The price of a model, or `undefined`: unknown, or priced by something else than tokens. Never throws.
   *
   * @param model As the request names it, or as `priceKey` writes it for a service tier: `gpt-5.5@priority`.
   * @param provider As the AI SDK or the list names it, such as `openai.responses` or `anthropic`.
   */
  find(model: string, provider?: string): ModelPrice | undefined
  /** Version of the price list. */
  readonly version: string
}
