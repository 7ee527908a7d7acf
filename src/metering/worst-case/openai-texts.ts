// The most that a request for embeddings or a legacy completion can use, read from its body.

import { bodyFields } from './body.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from './bound.ts'
import { refuseSwitches } from './switches.ts'
import { MAX_CHOICES } from './openai.ts'

/** Tokens of a legacy completion that sets no `max_tokens`: the default that OpenAI documents, and vLLM too. */
export const LEGACY_MAX_TOKENS = 16

/**
 * Bounds a request for embeddings. It has no output; a text has no more tokens than bytes, and a token given as a
 * number is at least a digit and a comma.
 *
 * @param bytes Length of the JSON as it is sent, in UTF-8 bytes.
 * @throws {Refusal} `ERR_UNMETERED` for an input that is neither text nor tokens, such as an image, without `maxInputTokens`.
 */
export function boundEmbeddingRequest(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const { model, input } = bodyFields(body)
  const named = !isTextOrTokens(input)
  if (named && options.maxInputTokens === undefined)
    throw unmetered(`The input of \`${nameOf(model)}\` is neither text nor tokens, so it cannot be counted here`, 'Set `maxInputTokens`')
  return boundInput(nameOf(model), bytes, { ...options, named })
}

/**
 * Bounds a call that has an input and no output, such as one of an embedding model.
 *
 * @param bytes At least as many as its input has tokens.
 * @throws {Refusal} {TypeError} {RangeError} As {@link boundFacts}.
 */
export function boundInput(
  model: string,
  bytes: number,
  { named = false, ...options }: BoundOptions & { readonly named?: boolean },
): RequestBound {
  const bound = boundFacts({ model, caps: {}, named, hostedTools: [], hasTools: false }, bytes, options)
  return { ...bound, outputTokensPerChoice: 0, capSet: true }
}

/**
 * Bounds a legacy completion: `best_of` answers are generated for each prompt, whatever `n` are sent back. `echo` counts
 * the prompt once more, on each of them.
 *
 * @param bytes Length of the JSON as it is sent, in UTF-8 bytes.
 * @throws {TypeError | RangeError} When a cap or a number of choices is not one that a provider accepts.
 */
export function boundCompletionRequest(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = bodyFields(body)
  refuseSwitches(fields)
  const { model, prompt, n, best_of: bestOf, echo, max_tokens: cap, max_completion_tokens: newCap } = fields
  const named = prompt != null && !isTextOrTokens(prompt)
  const choices = Math.max(readCount('n', n), readCount('best_of', bestOf)) * promptsIn(prompt)
  const caps = { max_tokens: cap, max_completion_tokens: newCap }
  const facts = { model: nameOf(model), caps, named, hostedTools: [], hasTools: false, choices }
  const bound = boundFacts(facts, bytes, { ...options, defaultMaxOutputTokens: LEGACY_MAX_TOKENS })
  return { ...bound, ...((echo ?? false) !== false && { predictedTokens: bytes }) }
}

function nameOf(model: unknown): string {
  return typeof model === 'string' ? model : ''
}

/** A text, tokens, or a list of such. */
function isTextOrTokens(input: unknown): boolean {
  const isOne = (value: unknown): boolean => typeof value === 'string' || typeof value === 'number'
  if (!Array.isArray(input)) return typeof input === 'string'
  return input.every((item: unknown) => isOne(item) || (Array.isArray(item) && item.every((token) => typeof token === 'number')))
}

/** A list of numbers is one prompt in tokens; any other list is one prompt each. */
function promptsIn(prompt: unknown): number {
  return Array.isArray(prompt) && !prompt.every((token) => typeof token === 'number') ? Math.max(1, prompt.length) : 1
}

function readCount(field: string, value: unknown): number {
  const number = value ?? 1
  if (typeof number !== 'number' || !(Math.abs(number) <= MAX_CHOICES))
    throw new TypeError(`Expected \`${field}\` to be a number up to ${MAX_CHOICES}.`)
  return Math.max(1, Math.ceil(number))
}
