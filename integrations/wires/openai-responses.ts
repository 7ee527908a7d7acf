// The Responses API of OpenAI, and of who speaks it.

import { boundResponsesRequest } from '../../src/metering/worst-case/openai.ts'
import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { eventOf, finding, modelInBody, textBytesIn, type Body, type Finding, type Wire } from './wire.ts'

const LAST_EVENT = /"type":\s*"response\.(?:completed|incomplete|failed)"/
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
        if (!LAST_EVENT.test(data)) return true
        ended = true
        const response = eventOf(data)?.['response']
        if (typeof response === 'object' && response !== null) found = findIn(response as Body) ?? found
        return true
      },
    }
  },
}

function findIn({ usage, output, id, service_tier: tier }: Body): Finding | undefined {
  return finding(readResponsesUsage(usage, output), id, tier)
}
