import type { Json } from '../lib/canonical-json.ts'

/** What became of an effect that happens at most once. */
export type Once<T> =
  | { readonly outcome: 'ran'; readonly result: T }
  /** It ran to its end before; nothing ran and nothing was charged now. `result` is absent when it was too large to keep. */
  | { readonly outcome: 'done'; readonly result?: Json }
  /** It began before, and nobody knows how it ended. Nothing ran now. */
  | { readonly outcome: 'unknown' }

/** Options of `scope.once`. */
export interface OnceOptions {
  /** Running it twice does no harm: what began before without a known end runs again. @default false */
  readonly idempotent?: boolean
  /** Says of an error that nothing happened yet, so that the effect may still run. @default says so of none */
  readonly undone?: (error: unknown) => boolean
  /** Gives up waiting for money that others hold. */
  readonly signal?: AbortSignal | undefined
}
