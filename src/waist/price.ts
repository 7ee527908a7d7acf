// What was used, and what it costs, as types: metering reads and computes them, scopes hand them on.

/**
 * What is billed by another measure than tokens, each counted in whole numbers: `images` by the piece, `audioMs` and
 * `videoMs` in milliseconds (begun ones count), `characters` as the provider counts them, `pages` of a document,
 * `searches` of a search or rerank endpoint.
 */
export type Unit = 'images' | 'audioMs' | 'videoMs' | 'characters' | 'pages' | 'searches'

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
  /**
   * Images in, where the provider tells them from text, be it 0. Absent: it does not, and `inputTokens`, which may have
   * them in it, cost the dearer of both.
   */
  readonly inputImageTokens?: number
  /** Images out; absent as `inputImageTokens`, for `outputTokens`. */
  readonly outputImageTokens?: number
  /** Calls of hosted tools that may carry a fee, such as `{ web_search: 2 }`. */
  readonly toolCalls: Readonly<Record<string, number>>
  /** What is billed by another measure than tokens: `{ images: 2 }`. Absent: nothing is. */
  readonly units?: Readonly<Partial<Record<Unit, number>>>
  /**
   * What the provider says this call cost, in nano-USD, rounded up: everything it bills for, tools included. Absent where
   * it does not say. It stands in the place of any price, since it is the bill; where the provider is not known for stating
   * costs, only if it is more than the price.
   */
  readonly statedNanoUsd?: number
}

/** A bucket of {@link Usage} that counts tokens. */
export type TokenBucket = Exclude<keyof Usage, 'toolCalls' | 'units' | 'statedNanoUsd'>

/**
 * What a rate is for: a bucket, or text where images are told apart from it. The rates of `inputTokens` and
 * `outputTokens` are the dearer of text and images.
 */
export type RateName = TokenBucket | 'inputTextTokens' | 'outputTextTokens'

/** A price per token in pico-USD; a tier replaces it for the whole request once its input exceeds `above` tokens. */
export interface Rate {
  readonly pico: bigint
  /** Ascending by `above`. */
  readonly tiers: readonly { readonly above: number; readonly pico: bigint }[]
}

/** A price of so many units in pico-USD: a minute of audio is `per` 60,000 ms, so that thirds of a pico-USD are exact. */
export interface UnitRate {
  readonly pico: bigint
  readonly per: number
}

/** What is charged for one call. */
export interface Rates {
  /** By bucket of {@link Usage}. A bucket without a rate cannot be priced, which is not the same as free. */
  readonly tokens: Readonly<Partial<Record<RateName, Rate>>>
  /** Pico-USD for each request, whatever it uses. */
  readonly request: bigint
  /** Pico-USD for one call of a hosted tool, by its name in {@link Usage.toolCalls}. */
  readonly tools: Readonly<Record<string, bigint>>
  /** By unit of {@link Usage.units}. A unit without a rate cannot be priced. */
  readonly units: Readonly<Partial<Record<Unit, UnitRate>>>
}

/** The price of a model. */
export interface ModelPrice {
  /**
   * Where it comes from, with its version, for the record: `genai-prices 0.1.8 openai/gpt-4o`, `override 2026-11-20`, or
   * `override holdfast.prices.json@3 2026-11-20` for the third edition of a file; `pessimistic` for what stands in for a
   * model that nobody knows.
   */
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
