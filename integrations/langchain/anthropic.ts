// A chat model of `@langchain/anthropic` with another `fetch` under it; the package itself is not imported.

type Fields = Readonly<Record<string, unknown>>
type MakeClient = (options: Fields) => unknown

/** The part of `ChatAnthropic` that is used. */
export interface AnthropicLikeModel {
  readonly clientOptions: Fields & { readonly fetch?: typeof fetch }
  readonly createClient: MakeClient
  readonly lc_kwargs?: Fields
}

/** True for `ChatAnthropic`, and what is built on it. */
export function isAnthropicLike(model: unknown): model is AnthropicLikeModel {
  const { clientOptions, createClient } = (model ?? {}) as Fields
  return typeof clientOptions === 'object' && clientOptions !== null && typeof createClient === 'function'
}

/**
 * A copy of a model, by its members, that sends through this `fetch`; the given model stays as it is.
 *
 * @throws {TypeError} When it is called, for a `createClient` of the user's own that makes a client without
 *   `withOptions`: nobody knows what such a client sends through.
 */
export function anthropicCopy<M extends AnthropicLikeModel>(model: M, fetch: typeof globalThis.fetch): M {
  const { createClient, clientOptions, lc_kwargs: kwargs } = model
  const members = {
    clientOptions: { ...clientOptions, fetch },
    // What it says of itself to callbacks, which look for a guard in it, and what a copy by its constructor is made of.
    lc_kwargs: { ...kwargs, clientOptions: { ...clientOptions, fetch } },
    // The clients of the model have the old `fetch`; new ones are made when they are needed.
    batchClient: undefined,
    streamingClient: undefined,
    ...(kwargs?.['createClient'] === undefined ? {} : { createClient: guardedClients(createClient, fetch) }),
  }
  return Object.assign(Object.create(Object.getPrototypeOf(model) as object) as M, model, members)
}

/** A client that the user makes himself may leave the `fetch` out that it is given. */
function guardedClients(createClient: MakeClient, fetch: typeof globalThis.fetch): MakeClient {
  return (options) => {
    const client = createClient(options) as { withOptions?: (more: Fields) => unknown }
    if (typeof client.withOptions === 'function') return client.withOptions({ fetch })
    throw new TypeError(
      'The client of `createClient` has no `withOptions`, so no guard can be put under it: make a client of the Anthropic SDK.',
    )
  }
}
