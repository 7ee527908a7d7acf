// What servers of the chat format want said in other words, as far as their address tells who they are.

/** How a server wants to be asked. */
export interface Dialect {
  /** The field of its output cap. A server that does not know the other one may refuse it, or ignore it. */
  readonly capField: 'max_completion_tokens' | 'max_tokens'
  /** Whether a stream has to be asked for its usage; a server that sends it anyway may refuse the question. */
  readonly asksForUsage: boolean
}

const USUAL: Dialect = { capField: 'max_completion_tokens', asksForUsage: true }
const OLD_CAP: Dialect = { capField: 'max_tokens', asksForUsage: true }

/**
 * The dialect of the server at an address.
 *
 * @see https://github.com/avante-corp/avante.nvim/issues/2347 and https://github.com/editor-code-assistant/eca/issues/231
 *   (2026-11-22: Mistral answers 422 to `stream_options` and to `max_completion_tokens`; its streams have usage anyway)
 * @see https://api-docs.deepseek.com/api/create-chat-completion (2026-11-22: `max_tokens` only)
 * @see https://docs.ollama.com/api/openai-compatibility (2026-11-22: `max_tokens` only; 11434 is its port)
 */
export function dialectOf({ hostname, port }: Pick<URL, 'hostname' | 'port'>, capField?: Dialect['capField']): Dialect {
  const dialect = /(?:^|\.)mistral\.ai$/.test(hostname)
    ? { ...OLD_CAP, asksForUsage: false }
    : /(?:^|\.)(?:deepseek|ollama)\.com$/.test(hostname) || port === '11434'
      ? OLD_CAP
      : USUAL
  return capField === undefined ? dialect : { ...dialect, capField }
}
