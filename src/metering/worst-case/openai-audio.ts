// The most that a transcription or a spoken text can use: in tokens, in time, or in characters, as its model is billed.

import { assertAmount } from '../../lib/amounts.ts'
import { bodyFields } from './body.ts'
import { longestMsOf } from './openai-forms.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from './bound.ts'

/**
 * Most output tokens of one transcription.
 *
 * @see https://developers.openai.com/api/docs/models/gpt-4o-transcribe, "Max output tokens"; that of the mini says the same
 */
const TRANSCRIPT_TOKENS = 2_000
const TRANSCRIBERS = /^gpt-4o(?:-mini)?-transcribe(?:-\d{4}-\d{2}-\d{2})?$/

/**
 * Bounds a transcription. By a model that is billed by the minute: the longest that the file can play, or
 * `maxAudioSeconds`. By one that bills tokens: its length in seconds cannot be told from the bytes of a file, but
 * what a model reads at once fits its context window. Audio that the provider cuts into chunks is read more than once.
 *
 * @param body The fields of the form.
 * @param bytes Length of its fields without the files, in UTF-8 bytes.
 * @throws {Refusal} `ERR_UNMETERED` when the model's window or its longest answer is not known, or the audio is cut into chunks.
 */
export function boundTranscription(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const fields = bodyFields(body)
  const model = typeof fields['model'] === 'string' ? fields['model'] : ''
  if (model.startsWith('whisper-') || options.units?.includes('audioMs') === true) return boundByTime(model, longestMsOf(fields), options)
  if (fields['chunking_strategy'] != null)
    throw unmetered(
      `\`${model}\` would cut the audio into chunks and read each with the prompt, so its cost has no bound`,
      'Leave `chunking_strategy` out and send at most 25 minutes at a time',
    )
  const longest = options.maxOutputTokens ?? (TRANSCRIBERS.test(model) ? TRANSCRIPT_TOKENS : undefined)
  const bound = boundFacts({ model, caps: {}, named: true, hostedTools: [], hasTools: false, inputAudio: true }, bytes, options)
  if (longest === undefined) throw unknownLength(model, 'transcript')
  return { ...bound, outputTokensPerChoice: longest, capSet: true }
}

function boundByTime(model: string, longestMs: number | undefined, options: BoundOptions): RequestBound {
  const { maxAudioSeconds } = options
  // Seconds that have begun are billed as whole ones.
  const seconds = maxAudioSeconds ?? (longestMs === undefined ? undefined : longestMs / 1_000)
  if (seconds === undefined)
    throw unmetered(
      `\`${model}\` is billed by the minute, and how long the audio plays cannot be told from its bytes`,
      'Set `maxAudioSeconds`, or send an MP3 or a WAV',
    )
  const audioMs = Math.ceil(seconds) * 1_000
  assertAmount('maxAudioSeconds', audioMs)
  return { ...withoutTokens(model, options), units: { audioMs } }
}

/** What is not billed in tokens has none. */
function withoutTokens(model: string, options: BoundOptions): RequestBound {
  const bound = boundFacts({ model, caps: {}, named: false, hostedTools: [], hasTools: false }, 0, options)
  return { ...bound, outputTokensPerChoice: 0, capSet: true }
}

/**
 * Bounds a text that is spoken. By a model that is billed by the character its price is exact. By one that bills tokens
 * no documented number says how long its audio can get, so it takes `maxOutputTokens` of the model's price.
 *
 * @param bytes Length of the JSON as it is sent, in UTF-8 bytes.
 * @throws {Refusal} `ERR_UNMETERED` when that is not set.
 */
export function boundSpeech(body: unknown, bytes: number, options: BoundOptions = {}): RequestBound {
  const { model: id, input, instructions } = bodyFields(body)
  const model = typeof id === 'string' ? id : ''
  if (/^tts-1(?:-hd)?(?:-\d+)?$/.test(model) || options.units?.includes('characters') === true) {
    if (typeof input !== 'string') throw new TypeError('Expected `input` to be a text.')
    // The models of OpenAI that bill characters take no instructions; who else bills them may bill these.
    const more = typeof instructions === 'string' ? instructions.length : 0
    return { ...withoutTokens(model, options), units: { characters: input.length + more } }
  }
  const bound = boundFacts({ model, caps: {}, named: false, hostedTools: [], hasTools: false }, bytes, options)
  if (options.maxOutputTokens === undefined) throw unknownLength(model, 'spoken text')
  return { ...bound, outputTokensPerChoice: options.maxOutputTokens, capSet: true }
}

function unknownLength(model: string, what: string) {
  return unmetered(
    `How many tokens a ${what} of \`${model}\` can have is not known, so its cost has no bound`,
    `Add \`maxOutputTokens\` to the price of the model: prices: { '${model.slice(0, 128)}': { …, maxOutputTokens: 4000 } }`,
  )
}
