// The usage of OpenAI's endpoints for images and sound, and of who speaks their formats.

import type { Usage } from '../../waist/price.ts'
import { NOTHING_BESIDE, asFields, count, makeDisjoint, required, type Fields, type Report } from './disjoint.ts'
import { audioMs } from './duration.ts'
import { statedCost } from './stated.ts'
import { NOTHING_USED } from './totals.ts'

/**
 * Reads the answer of an images endpoint, or the event that completes a streamed one: the `usage` of the gpt-image models,
 * with images told from text, and xAI's stated cost; without any, the pictures in `data` are counted.
 *
 * @returns `undefined` for neither, and for usage that does not add up.
 * @see https://www.rubydoc.info/gems/openai/OpenAI/Models/ImagesResponse/Usage (looked up 2026-11-22)
 */
export function readImagesAnswer(answer: unknown): Usage | undefined {
  const fields = asFields(answer)
  if (fields === undefined) return undefined
  if (fields['usage'] != null) return readImagesUsage(fields['usage'])
  const { data } = fields
  return Array.isArray(data) && data.length > 0 ? { ...NOTHING_USED, units: { images: data.length } } : undefined
}

function readImagesUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  if (fields === undefined) return undefined
  const stated = statedCost(fields)
  if (stated !== undefined && fields['input_tokens'] == null) return makeDisjoint({ ...reportOf(fields), statedNanoUsd: stated })
  const inputDetails = asFields(fields['input_tokens_details'] ?? {})
  const outputDetails = asFields(fields['output_tokens_details'] ?? {})
  if (inputDetails === undefined || outputDetails === undefined) return undefined
  const cached = count(inputDetails['cached_tokens'])
  return makeDisjoint({
    ...reportOf(fields),
    input: required(fields['input_tokens']),
    output: required(fields['output_tokens']),
    cacheRead: cached,
    ...imagesIn(inputDetails, required(fields['input_tokens']), cached),
    ...imagesOut(outputDetails, required(fields['output_tokens'])),
    ...(stated !== undefined && { statedNanoUsd: stated }),
  })
}

/** Images that were not read from the cache. Where it is not said what was, it was text: images cost more. */
function imagesIn(details: Fields, total: number, cached: number): Pick<Report, 'inputImage'> {
  const { text_tokens: text, image_tokens: image } = details
  if (text == null && image == null) return {}
  if (count(text) + count(image) !== total) return { inputImage: Number.NaN }
  const cachedImages = asFields(details['cached_tokens_details'])?.['image_tokens']
  return { inputImage: count(image) - (cachedImages == null ? Math.max(0, cached - count(text)) : count(cachedImages)) }
}

function imagesOut({ text_tokens: text, image_tokens: image }: Fields, total: number): Pick<Report, 'outputImage'> {
  if (text == null && image == null) return {}
  return { outputImage: count(text) + count(image) === total ? count(image) : Number.NaN }
}

/**
 * Reads the `usage` of a transcription or translation: tokens, or seconds of sound. Input that is not divided into text and
 * sound counts as sound, which costs more.
 *
 * @returns `undefined` for no usable usage: plain text and subtitles have none, whisper at other providers neither.
 * @see https://www.rubydoc.info/gems/openai/OpenAI/Models/Audio/Transcription/Usage/Tokens (looked up 2026-11-22)
 */
export function readTranscriptionUsage(usage: unknown): Usage | undefined {
  const fields = asFields(usage)
  if (fields === undefined) return undefined
  if (fields['type'] === 'duration') {
    const ms = audioMs(fields['seconds'])
    return ms === undefined || ms === 0 ? undefined : { ...NOTHING_USED, units: { audioMs: ms } }
  }
  const details = asFields(fields['input_token_details'] ?? {})
  if (fields['type'] !== 'tokens' || details === undefined) return undefined
  const input = required(fields['input_tokens'])
  const { text_tokens: text, audio_tokens: audio } = details
  const divided = text != null || audio != null
  if (divided && count(text) + count(audio) !== input) return undefined
  return makeDisjoint({
    ...reportOf(fields),
    input,
    output: required(fields['output_tokens']),
    inputAudio: divided ? count(audio) : input,
  })
}

function reportOf(fields: Fields): Report {
  return {
    ...NOTHING_BESIDE,
    input: 0,
    output: 0,
    total: fields['total_tokens'],
  }
}
