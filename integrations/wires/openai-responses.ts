// The Responses API of OpenAI, and of who speaks it.

import { boundResponsesRequest } from '../../src/metering/worst-case/openai.ts'
import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { eventOf, finding, modelInBody, textBytesIn, type Body, type Finding, type Wire } from './wire.ts'

const LAST_EVENTS: ReadonlySet<unknown> = new Set(['response.completed', 'response.incomplete', 'response.failed'])
/** A cheap look that spares parsing the others; what a caller wrote, and is sent back, may look like it. */
const MAY_BE_LAST = /"type":\s*"response\.(?:completed|incomplete|failed)"/
const LAST_NAMES = ['completed', 'incomplete', 'failed'].map((end) => Buffer.from(`"response.${end}"`))
const DELTA = /"type":\s*"[\w.]+\.delta"/

/** `POST …/responses`. */
export const responses: Wire = {
  name: 'responses',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundResponsesRequest(body, bytes, options),
  prepare: (body, cap) => (cap === undefined ? body : { ...body, max_output_tokens: cap }),
  isStream: ({ body }) => body['stream'] === true,
  findIn,
  events(_original, { countOutput = false } = {}) {
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
      mayMatter: (events) => countOutput || LAST_NAMES.some((name) => events.includes(name)),
      look(data) {
        if (countOutput && DELTA.test(data)) outputBytes += textBytesIn(eventOf(data)?.['delta'])
        if (!MAY_BE_LAST.test(data)) return true
        const { type, response } = eventOf(data) ?? {}
        if (!LAST_EVENTS.has(type)) return true
        ended = true
        if (typeof response === 'object' && response !== null) found = findIn(response as Body) ?? found
        return true
      },
    }
  },
}

/** What is not finished has used more than it says. */
const RUNNING: ReadonlySet<unknown> = new Set(['queued', 'in_progress'])

function findIn({ status, usage, output, id, service_tier: tier }: Body): Finding | undefined {
  return RUNNING.has(status) ? undefined : finding(readResponsesUsage(usage, output), id, tier)
}
