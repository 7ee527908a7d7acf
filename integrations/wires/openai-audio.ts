// Audio in and out, billed in tokens, in time or by the character.

import type { Usage } from '../../src/waist/price.ts'
import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { boundSpeech, boundTranscription } from '../../src/metering/worst-case/openai-audio.ts'
import { unitUsage } from './unit-usage.ts'
import { eventOf, finding, modelInBody, type Body, type EventReader, type Finding, type Wire } from './wire.ts'

/** `POST …/audio/transcriptions` and `…/audio/translations`. */
export const transcriptions: Wire = {
  name: 'transcriptions',
  accepts: 'form',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundTranscription(body, bytes, options),
  prepare: (body) => body,
  isStream: ({ body }) => body['stream'] === 'true',
  findIn,
  events: () => lastEvent(/"type":\s*"transcript\.text\.done"/),
}

/** `POST …/audio/speech`. Its answer is sound, and says what it used only as a stream of events (`stream_format: 'sse'`). */
export const speech: Wire = {
  name: 'speech',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundSpeech(body, bytes, options),
  prepare: (body) => body,
  isStream: ({ body }) => body['stream_format'] === 'sse',
  answersBytes: ({ body }) => body['stream_format'] !== 'sse',
  // The price of its characters does not depend on the answer.
  findInRequest: (_, { units }) => finding(units === undefined ? undefined : unitUsage(units), undefined, undefined),
  findIn,
  events: () => lastEvent(/"type":\s*"speech\.audio\.done"/),
}

function lastEvent(pattern: RegExp): EventReader {
  let found: Finding | undefined
  let ended = false
  return {
    get found() {
      return found
    },
    get ended() {
      return ended
    },
    look(data) {
      if (!pattern.test(data)) return true
      ended = true
      found = findIn(eventOf(data) ?? {}) ?? found
      return true
    },
  }
}

/**
 * In time, or in tokens; here alone their details are called `input_token_details`. A verbose answer without usage says
 * how long its audio was, of which seconds that have begun are billed as whole ones.
 */
function findIn({ usage, duration }: Body): Finding | undefined {
  if (usage == null) return finding(timeUsage(duration), undefined, undefined)
  if (typeof usage !== 'object') return undefined
  const { input_token_details: details, ...rest } = usage as Body
  const { type, seconds } = rest
  const used = type === 'duration' ? timeUsage(seconds) : readResponsesUsage({ input_tokens_details: details, ...rest })
  return finding(used, undefined, undefined)
}

function timeUsage(seconds: unknown): Usage | undefined {
  return typeof seconds === 'number' ? unitUsage({ audioMs: Math.ceil(seconds) * 1_000 }) : undefined
}
