// What the transport guard knows of each endpoint: how to bound a request, what to add to it, and where in an
// answer the usage stands. One entry per wire format.

import { boundChatRequest, boundResponsesRequest, type BoundOptions, type RequestBound } from '../src/metering/worst-case.ts'
import { readChatUsage, readResponsesUsage } from '../src/metering/usage.ts'
import type { Usage } from '../src/waist/price.ts'

/** The usage of an answer, and what else tells its price. */
export interface Finding {
  readonly usage: Usage
  readonly responseId?: string
  readonly serviceTier?: string
}

type Body = Readonly<Record<string, unknown>>

/** A wire format. */
export interface Endpoint {
  readonly name: 'chat' | 'responses'
  bound(body: Body, bytes: number, options: BoundOptions): RequestBound
  /** The same request with this output cap, and asking for its usage. `cap` undefined: the request has a cap of its own. */
  prepare(body: Body, cap: number | undefined, capField: string): Body
  /** Finds the usage in the JSON body of an answer. */
  findIn(answer: Body): Finding | undefined
  /** Whether nothing that matters comes after this event: many callers stop reading here, so here it is settled. */
  isLast(data: string): boolean
  /** Whether the data of an event may hold the usage: a cheap look that spares parsing the others. */
  mayHoldUsage(data: string): boolean
  /** Finds the usage in an event. */
  findInEvent(event: Body): Finding | undefined
  /** Whether this event is there only because `prepare` asked for usage. */
  isAddition(event: Body, original: Body): boolean
}

const chat: Endpoint = {
  name: 'chat',
  bound: boundChatRequest,
  prepare(body, cap, capField) {
    const capped = cap === undefined ? body : { ...withoutCaps(body), [capField]: cap }
    if (body['stream'] !== true || asksForUsage(body)) return capped
    return { ...capped, stream_options: { ...(body['stream_options'] as Body | null | undefined), include_usage: true } }
  },
  findIn: (answer) => finding(readChatUsage(answer['usage']), answer),
  mayHoldUsage: (data) => data.includes('"usage"') && !/"usage":\s*null/.test(data),
  isLast: (data) => data === '[DONE]',
  findInEvent: (event) => finding(readChatUsage(event['usage']), event),
  isAddition: ({ choices }, original) => !asksForUsage(original) && Array.isArray(choices) && choices.length === 0,
}

const LAST_RESPONSE_EVENT = /"type":\s*"response\.(?:completed|incomplete|failed)"/

const responses: Endpoint = {
  name: 'responses',
  bound: boundResponsesRequest,
  prepare: (body, cap) => (cap === undefined ? body : { ...body, max_output_tokens: cap }),
  findIn: (answer) => finding(readResponsesUsage(answer['usage'], answer['output']), answer),
  isLast: (data) => LAST_RESPONSE_EVENT.test(data),
  mayHoldUsage: (data) => LAST_RESPONSE_EVENT.test(data),
  findInEvent({ response }) {
    if (typeof response !== 'object' || response === null) return undefined
    const answer = response as Body
    return finding(readResponsesUsage(answer['usage'], answer['output']), answer)
  },
  isAddition: () => false,
}

/** What a request is to the guard. */
export type Classified = Endpoint | 'unbilled' | 'unknown'

/** Finds the endpoint of a request by its method and path. */
export function endpointOf(method: string, path: string): Classified {
  if (method !== 'POST') return 'unbilled'
  if (path.endsWith('/chat/completions')) return chat
  if (path.endsWith('/responses')) return responses
  return path.endsWith('/cancel') ? 'unbilled' : 'unknown'
}

/** Longest id of a response, in UTF-16 code units. It goes into a record, and an endless one identifies nothing. */
const MAX_ID_LENGTH = 256

function finding(usage: Usage | undefined, { id, service_tier: tier }: Body): Finding | undefined {
  if (usage === undefined) return undefined
  const isId = typeof id === 'string' && id.length <= MAX_ID_LENGTH && id.isWellFormed()
  return { usage, ...(isId ? { responseId: id } : {}), ...(typeof tier === 'string' ? { serviceTier: tier } : {}) }
}

function asksForUsage(body: Body): boolean {
  return (body['stream_options'] as Body | null | undefined)?.['include_usage'] === true
}

function withoutCaps({ max_tokens: _old, max_completion_tokens: _new, ...rest }: Body): Body {
  return rest
}
