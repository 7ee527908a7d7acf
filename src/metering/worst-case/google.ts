// The most that a request to `generateContent` can use, read from its body.

import { asFields, type Fields } from '../usage/disjoint.ts'
import { paysByPrompt } from '../usage/google.ts'
import { asList, bodyFields } from './body.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from './bound.ts'

/** Most candidates in one request that is given a bound; Google documents 8. */
const MAX_CANDIDATES = 128

/** What a walk through a request has found. */
interface Found {
  named: boolean
  inputAudio: boolean
  searches: boolean
  readsUrls: boolean
}

/**
 * Bounds a request to `generateContent` or `streamGenerateContent`, of the Gemini API or of Vertex AI.
 *
 * `maxOutputTokens` holds for thoughts and answer together; `thinkingBudget` is a wish, and bounds nothing. Google
 * takes every field in camelCase and in snake_case, so both are read, and a field in both has no bound.
 *
 * @param model From the path: the body has none.
 * @param bytes Length of the body as it is sent, in UTF-8 bytes. A tokenizer that falls back to bytes makes no more tokens.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 * @throws {TypeError | RangeError} When a cap or a number of candidates is not one that a provider accepts.
 * @see https://github.com/googleapis/python-genai/issues/2062 (2026-11-22: thoughts and answer end at `maxOutputTokens` together)
 * @see https://ai.google.dev/api/generate-content (2026-11-22)
 */
export function boundGoogleRequest(model: string, body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = inCamelCase(bodyFields(body))
  const config = inCamelCase(asOptional('generationConfig', fields['generationConfig']))
  for (const field of ['routingConfig', 'modelSelectionConfig'])
    if (config[field] != null)
      throw unmetered(`\`${field}\` lets Google choose the model, so the price is not known`, `Leave out \`${field}\``)
  const found: Found = { named: false, inputAudio: false, searches: false, readsUrls: false }
  for (const field of Object.keys(fields)) if (fields[field] != null && !COUNTED_FIELDS.has(field)) found.named = true
  for (const content of [...asList(fields['contents']), ...asList(fields['systemInstruction'])]) scanContent(content, found)
  for (const tool of asList(fields['tools'])) scanTool(model, tool, found)
  if ((found.searches || found.readsUrls) && options.maxInputTokens === undefined)
    throw unmetered(
      `\`${model}\` may search or read pages as often as it likes, and a request to Gemini has no limit for that`,
      'Set `maxInputTokens`, the most that all of it can bring, and for searches the fee: toolUsdPerThousand: { web_search: 35 }',
    )
  const bound = boundFacts(
    {
      model,
      caps: { maxOutputTokens: config['maxOutputTokens'] },
      named: found.named || found.searches || found.readsUrls,
      hostedTools: [],
      hasTools: asList(fields['tools']).length > 0,
      choices: readCandidates(config['candidateCount']),
      inputAudio: found.inputAudio,
      outputAudio: speaks(model, config),
    },
    bytes,
    options,
  )
  if (!found.searches) return bound
  const maxToolCalls = paysByPrompt(model) ? 1 : options.maxToolCalls
  return { ...bound, hostedTools: ['web_search'], ...(maxToolCalls !== undefined && { maxToolCalls }) }
}

/** Fields of a body whose content is counted by its bytes, or costs nothing; whatever else it has is not known here. */
const COUNTED_FIELDS: ReadonlySet<string> = new Set([
  'contents',
  'systemInstruction',
  'tools',
  'toolConfig',
  'safetySettings',
  'generationConfig',
  'labels',
  'serviceTier',
  'store',
  'model',
])

// What is known to be text, since a kind of part that is new tomorrow must not count as free.
const TEXT_PARTS: ReadonlySet<string> = new Set([
  'text',
  'thought',
  'thoughtSignature',
  'functionCall',
  'functionResponse',
  'executableCode',
  'codeExecutionResult',
])

function scanContent(content: unknown, found: Found): void {
  for (const item of asList(inCamelCase(asFields(content) ?? {})['parts'])) {
    const part = inCamelCase(asFields(item) ?? {})
    for (const [kind, value] of Object.entries(part)) {
      if (value == null) continue
      if (!TEXT_PARTS.has(kind)) found.named = true
      // A function may answer with pictures.
      if (kind === 'functionResponse' && asList(asFields(value)?.['parts']).length > 0) found.named = true
      if (kind !== 'inlineData' && kind !== 'fileData') continue
      const { mimeType } = inCamelCase(asFields(value) ?? {})
      if (typeof mimeType === 'string' && mimeType.toLowerCase().startsWith('audio/')) found.inputAudio = true
    }
  }
}

function scanTool(model: string, tool: unknown, found: Found): void {
  for (const [kind, value] of Object.entries(inCamelCase(asFields(tool) ?? {}))) {
    if (value == null || kind === 'functionDeclarations') continue
    if (kind === 'googleSearch' || kind === 'googleSearchRetrieval') found.searches = true
    else if (kind === 'urlContext') found.readsUrls = true
    // The caller's own code moves the pointer, and Google adds the declarations for it.
    else if (kind === 'computerUse') found.named = true
    else
      throw unmetered(
        `\`${model}\` would use the hosted tool \`${kind.slice(0, 64)}\`, and neither its turns nor its calls have a limit or are counted`,
        'Declare a function of your own in its place',
      )
  }
}

/** Whether the answer may be spoken. */
function speaks(model: string, { responseModalities, responseFormat, speechConfig }: Fields): boolean {
  const formats = asList(responseFormat).flatMap((format) => Object.keys(asFields(format) ?? {}))
  const kinds = [...(typeof responseModalities === 'string' ? [responseModalities] : asList(responseModalities)), ...formats].map((kind) =>
    String(kind).toUpperCase(),
  )
  // Models that draw do so unless they are told to write.
  const draws = kinds.length === 0 && /-image(?:-|$)/.test(model)
  if (draws || !kinds.every((kind) => kind === 'TEXT' || kind === 'AUDIO'))
    throw unmetered(
      `\`${model}\` would answer with more than text and speech, and the output cap of a request is not known to bound that`,
      "Set generationConfig.responseModalities: ['TEXT']",
    )
  return kinds.includes('AUDIO') || speechConfig != null
}

function readCandidates(value: unknown): number {
  const candidates = value ?? 1
  if (typeof candidates !== 'number' || !(candidates >= 0 && candidates <= MAX_CANDIDATES))
    throw new TypeError(
      `Expected \`candidateCount\` to be a number up to ${MAX_CANDIDATES}, got \`${JSON.stringify(value)?.slice(0, 40)}\`.`,
    )
  return Math.max(1, Math.ceil(candidates))
}

function asOptional(name: string, value: unknown): Fields {
  const fields = asFields(value ?? {})
  if (fields === undefined) throw new TypeError(`Expected \`${name}\` to be an object.`)
  return fields
}

/** @throws {TypeError} For a field that is there in both spellings: which one counts is not documented. */
function inCamelCase(fields: Fields): Fields {
  const renamed: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(fields)) {
    const name = camelCase(key)
    if (Object.hasOwn(renamed, name)) throw new TypeError(`Expected \`${name.slice(0, 64)}\` to be in the request once.`)
    // Defined rather than assigned: a field may have any name, `__proto__` too.
    Object.defineProperty(renamed, name, { value, enumerable: true, configurable: true, writable: true })
  }
  return renamed
}

/** The name that Google's JSON has for a field, which it takes in snake_case, too. */
export function camelCase(key: string): string {
  return key.replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

/**
 * Bounds a request to `embedContent` or `batchEmbedContents`: it has no output, and no more tokens than bytes, unless
 * there is more in it than text.
 *
 * @param model From the path.
 * @param bytes Length of the body as it is sent, in UTF-8 bytes.
 * @throws {Refusal} `ERR_UNMETERED` for an image or a file without `maxInputTokens`: a batch may have many of them.
 * @see https://ai.google.dev/api/embeddings (2026-11-22)
 */
export function boundGoogleEmbedding(model: string, body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const { requests, ...single } = inCamelCase(bodyFields(body))
  const found: Found = { named: false, inputAudio: false, searches: false, readsUrls: false }
  for (const request of requests == null ? [single] : asList(requests)) {
    const { content } = inCamelCase(asOptional('requests', request))
    scanContent(content, found)
    if (asList(asFields(content)?.['parts']).length === 0) found.named = true
  }
  const { named, inputAudio } = found
  if (named && options.maxInputTokens === undefined)
    throw unmetered(`The input of \`${model}\` is more than text, so it cannot be counted here`, 'Set `maxInputTokens`')
  const bound = boundFacts({ model, caps: {}, named, hostedTools: [], hasTools: false, inputAudio }, bytes, options)
  return { ...bound, outputTokensPerChoice: 0, capSet: true }
}
