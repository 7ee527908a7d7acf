// The most that a request for images can use, read from its fields. Images of the GPT Image models are billed in
// tokens; how many one image has depends on its size and quality.

import { bodyFields } from './body.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from './bound.ts'
import { hasFile } from './openai-forms.ts'

/** Most images in one request that OpenAI documents. */
export const MAX_IMAGES = 10
/** Most partial images of a stream that OpenAI documents, each of which costs as many output tokens more. */
const MAX_PARTIAL_IMAGES = 3
const PARTIAL_IMAGE_TOKENS = 100

/** Output tokens of one image by quality, for square, portrait and landscape. */
type ImageTable = Readonly<Record<'low' | 'medium' | 'high', Readonly<Record<'1024x1024' | '1024x1536' | '1536x1024', number>>>>

/**
 * Output tokens of one image, by size and quality, of the models whose output is images only. `gpt-image-1.5` bills text
 * on top and later models any size, both without a documented bound, so these are not here.
 *
 * The same page prices an image of the mini model higher than its tokens at the mini's rate (0.036 USD for 4,160 tokens
 * at 8 USD per million), so its numbers here are those prices in tokens, rounded up.
 *
 * @see https://developers.openai.com/api/docs/guides/image-generation, "Cost and latency", looked up on 2026-11-22
 */
const TOKENS: Readonly<Record<'gpt-image-1' | 'gpt-image-1-mini', ImageTable>> = {
  'gpt-image-1': {
    low: { '1024x1024': 272, '1024x1536': 408, '1536x1024': 400 },
    medium: { '1024x1024': 1_056, '1024x1536': 1_584, '1536x1024': 1_568 },
    high: { '1024x1024': 4_160, '1024x1536': 6_240, '1536x1024': 6_208 },
  },
  'gpt-image-1-mini': {
    low: { '1024x1024': 625, '1024x1536': 750, '1536x1024': 750 },
    medium: { '1024x1024': 1_375, '1024x1536': 1_875, '1536x1024': 1_875 },
    high: { '1024x1024': 4_500, '1024x1536': 6_500, '1536x1024': 6_500 },
  },
}

/**
 * Bounds a request to generate, edit or vary images: by the piece where the price is for an image, else in tokens. Its
 * output cannot be capped.
 *
 * What is not in the table takes `maxOutputTokens` of the model's price, for one image.
 *
 * @param body The parsed JSON of the request, or the fields of its form.
 * @param bytes Length of the fields as they are sent, in UTF-8 bytes, without the files of a form.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 */
export function boundImageRequest(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = bodyFields(body)
  const { model: id, partial_images: partial } = fields
  const model = typeof id === 'string' ? id : ''
  if (fields['svg'] != null || fields['output_format'] === 'svg')
    throw unmetered(`An SVG of \`${model}\` is written by a second model, whose cost has no bound`, 'Ask for png, jpeg or webp')
  if (isByPiece(model, options)) return boundByPiece(model, readImages(fields['n']), options)
  // Images to work on have tokens by their pixels, which nobody counts here.
  const named = hasFile(fields) || ['image', 'images', 'mask', 'reference_images'].some((field) => fields[field] != null)
  const bound = boundFacts({ model, caps: {}, named, hostedTools: [], hasTools: false, choices: readImages(fields['n']) }, bytes, options)
  const partials = readWhole('partial_images', partial ?? 0, MAX_PARTIAL_IMAGES) * PARTIAL_IMAGE_TOKENS
  return { ...bound, outputTokensPerChoice: tokensOfImage(model, fields, options) + partials, capSet: true }
}

/** Retired models of OpenAI, and whatever has a price for an image. */
function isByPiece(model: string, { units = [] }: BoundOptions): boolean {
  return units.includes('images') || /^dall-e-[23]$/.test(model)
}

/** Whatever goes in, only what comes out is billed. */
function boundByPiece(model: string, images: number, options: BoundOptions): RequestBound {
  const bound = boundFacts({ model, caps: {}, named: false, hostedTools: [], hasTools: false }, 0, options)
  return { ...bound, outputTokensPerChoice: 0, capSet: true, units: { images } }
}

function tokensOfImage(
  model: string,
  { size, quality, output_format: format }: ReturnType<typeof bodyFields>,
  options: BoundOptions,
): number {
  const { maxOutputTokens } = options
  if (maxOutputTokens !== undefined) return maxOutputTokens
  const name = model.replace(/-\d{4}-\d{2}-\d{2}$/, '')
  const table: ImageTable | undefined = Object.hasOwn(TOKENS, name) ? TOKENS[name as keyof typeof TOKENS] : undefined
  const rows = choose(table, quality)
  const tokens = rows?.flatMap((row) => choose(row, size) ?? [Number.NaN])
  if (tokens === undefined || tokens.some(Number.isNaN) || format === 'gif')
    throw unmetered(
      `How many tokens an image of \`${model}\` has in this size, quality and format is not known, so its cost has no bound`,
      `Add \`maxOutputTokens\` of one image to the price of the model: prices: { '${model.slice(0, 128)}': { …, maxOutputTokens: 20000 } }`,
    )
  return Math.max(...tokens)
}

/** One row or all of them: what is left to the provider may be any. `undefined` for a row that does not exist. */
function choose<T>(rows: Readonly<Record<string, T>> | undefined, key: unknown): readonly T[] | undefined {
  if (rows === undefined) return undefined
  if (key == null || key === 'auto') return Object.values(rows)
  return typeof key === 'string' && Object.hasOwn(rows, key) ? [rows[key]!] : undefined
}

/** How many images a request asks for. A form has its numbers as texts. */
function readImages(n: unknown): number {
  return Math.max(1, readWhole('n', n ?? 1, MAX_IMAGES))
}

function readWhole(field: string, value: unknown, most: number): number {
  const number = typeof value === 'string' && value !== '' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0 || number > most)
    throw new TypeError(`Expected \`${field}\` to be a whole number up to ${most}.`)
  return number
}
