// Chat completions, as OpenAI defines them and most others speak them.

import { boundChatRequest } from '../../src/metering/worst-case/openai.ts'
import { readChatAnswer } from '../../src/metering/usage/openai.ts'
import {
  deploymentIn,
  eventOf,
  finding,
  modelInBody,
  textBytesIn,
  type Body,
  type EventReader,
  type Finding,
  type RequestedModel,
  type Wire,
  type WireRequest,
} from './wire.ts'

/** `POST …/chat/completions`. */
export const chat: Wire = {
  name: 'chat',
  modelOf,
  bound(request, options) {
    const { body, bytes } = request
    return boundChatRequest({ ...body, model: modelOf(request).id }, bytes, options)
  },
  prepare(body, cap, { capField, asksForUsage }) {
    const own = capField === 'max_tokens' ? body['max_completion_tokens'] : undefined
    const capToSend = cap ?? own
    const capped = capToSend == null ? body : { ...withoutCaps(body), [capField]: capToSend }
    if (body['stream'] !== true || !asksForUsage || isAskedForUsage(body)) return capped
    return { ...capped, stream_options: { ...(body['stream_options'] as Body | null | undefined), include_usage: true } }
  },
  isStream: ({ body }) => body['stream'] === true,
  findIn,
  events: readEvents,
}

function modelOf(request: WireRequest): RequestedModel {
  const named = modelInBody(request)
  return deploymentIn(request.path) === undefined && request.body['model'] == null ? { ...named, id: '' } : named
}

const USAGE = Buffer.from('"usage"')
const FINISH = Buffer.from('"finish_reason"')
const DONE = Buffer.from('[DONE]')
const LOWER_N = 110
/** Space, tab, line feed, carriage return, colon: what may stand between a name and its value. */
const BETWEEN: ReadonlySet<number | undefined> = new Set([32, 9, 10, 13, 58])

/** Whether a member of this name has another value than `null` in these bytes. Many servers send both in every event. */
function isTold(events: Buffer, name: Buffer): boolean {
  for (let at = events.indexOf(name); at >= 0; at = events.indexOf(name, at)) {
    at += name.length
    while (BETWEEN.has(events[at])) at += 1
    if (events[at] !== LOWER_N) return true
  }
  return false
}

/**
 * Usage stands in an event of its own behind the others (OpenAI), in the event that ends the answer (Mistral, Groq),
 * or in every event, counted up (xAI, vLLM on request). So it counts once every choice has ended, or at `[DONE]`; before
 * that it is only what was used so far, and so is that of an event without choices.
 */
function readEvents(original: Body, { countOutput = false }: { readonly countOutput?: boolean } = {}): EventReader {
  const choicesAsked = Math.max(1, Number(original['n'] ?? 1))
  const isAsked = isAskedForUsage(original)
  const finished = new Set<unknown>()
  let latest: Finding | undefined
  let found: Finding | undefined
  let ended = false
  let outputBytes = 0
  return {
    get found() {
      return found
    },
    get ended() {
      return ended
    },
    get outputBytes() {
      return outputBytes
    },
    mayMatter: (events) => countOutput || isTold(events, USAGE) || isTold(events, FINISH) || events.includes(DONE),
    look(data) {
      if (data === '[DONE]') {
        ended = true
        found ??= latest
        return true
      }
      // A cheap look that spares parsing the others.
      const hasUsage = /"usage":\s*\{/.test(data)
      if (!hasUsage && !countOutput && !/"finish_reason":\s*"/.test(data)) return true
      const event = eventOf(data)
      if (event === undefined) return true
      const choices = Array.isArray(event['choices']) ? (event['choices'] as readonly (Body | null)[]) : []
      if (countOutput) for (const choice of choices) outputBytes += textBytesIn(choice?.['delta'])
      for (const choice of choices) if (isReason(choice?.['finish_reason'])) finished.add(choice?.['index'] ?? 0)
      if (hasUsage) latest = findIn(event) ?? latest
      if (hasUsage && finished.size >= choicesAsked) found = latest
      return isAsked || !hasUsage || choices.length > 0
    },
  }
}

/** Some servers write an empty reason in every event. */
function isReason(reason: unknown): boolean {
  return reason != null && reason !== ''
}

function findIn(answer: Body): Finding | undefined {
  return finding(readChatAnswer(answer), answer['id'], answer['service_tier'])
}

function isAskedForUsage(body: Body): boolean {
  return (body['stream_options'] as Body | null | undefined)?.['include_usage'] === true
}

function withoutCaps({ max_tokens: _old, max_completion_tokens: _new, ...rest }: Body): Body {
  return rest
}
