// Batches of messages: many requests to the Messages API in one body. Each is bounded by itself, all are held together,
// and what each used stands in results that come within a day.

import { boundAnthropicRequest, paysForCodeExecution } from '../../src/metering/worst-case/anthropic.ts'
import { unmetered, type BoundOptions, type RequestBound } from '../../src/metering/worst-case/bound.ts'
import { betasOf, messages } from './anthropic.ts'
import { noEvents, type Body, type Finding, type Wire, type WireRequest } from './wire.ts'

/** Most requests of one batch: https://platform.claude.com/docs/en/build-with-claude/batch-processing (looked up 2026-11-22). */
export const MAX_BATCH_REQUESTS = 100_000

/** `POST …/v1/messages/batches`. */
export const messageBatches: Wire = {
  name: 'anthropic-message-batches',
  modelOf: (request) => messages.modelOf({ ...request, body: requestsOf(request.body)[0]?.params ?? {} }),
  bound: boundBatch,
  // Every request has a cap, so one comes only where it was made smaller.
  prepare: (body, cap) => (cap === undefined ? body : { ...body, requests: requestsOf(body).map((one) => capped(one, cap)) }),
  isStream: () => false,
  // What answers the request says that the batch was begun.
  findIn: () => undefined,
  events: noEvents,
}

/** One request of a batch, as its caller wrote it. */
interface BatchRequest {
  readonly custom_id?: unknown
  readonly params: Body
  readonly [other: string]: unknown
}

/** What decides the price of an answer besides its usage, by `custom_id`: the request, without all that is long in it. */
export function pricedBy(body: Body): ReadonlyMap<string, Body> {
  const shared = new Map<string, Body>()
  const kept = new Map<string, Body>()
  for (const { custom_id: id, params } of requestsOf(body)) {
    const text = JSON.stringify(decisive(params))
    const one = shared.get(text) ?? (JSON.parse(text) as Body)
    shared.set(text, one)
    kept.set(String(id), one)
  }
  return kept
}

/** How one request of a batch ended, as a line of the results has it. */
export type LineResult = { readonly customId: string; readonly found: Finding | 'unbilled' | undefined }

/**
 * Reads one line of results. A request that was `errored`, `canceled` or `expired` is not billed.
 *
 * @returns `undefined` for what is no line about a request of this batch; `found` is `undefined` where no usage is.
 * @see https://platform.claude.com/docs/en/build-with-claude/batch-processing (looked up 2026-11-22)
 */
export function readLine(line: unknown, requests: ReadonlyMap<string, Body>): LineResult | undefined {
  const { custom_id: id, result } = asBody(line)
  const original = typeof id === 'string' ? requests.get(id) : undefined
  if (original === undefined) return undefined
  const { type, message } = asBody(result)
  const customId = id as string
  if (typeof type === 'string' && UNBILLED_RESULTS.has(type)) return { customId, found: 'unbilled' }
  return { customId, found: type === 'succeeded' ? messages.findIn(asBody(message), original) : undefined }
}

/** Whether a batch, as an answer shows it, has ended without one request that succeeded; what ended otherwise is not billed. */
export function endedUnbilled(shown: Body, batch: string, requests: number): boolean {
  const { id, processing_status: status, request_counts: counts } = shown
  const { errored, canceled, expired } = asBody(counts)
  return id === batch && status === 'ended' && Number(errored) + Number(canceled) + Number(expired) === requests
}

const UNBILLED_RESULTS: ReadonlySet<string> = new Set(['errored', 'canceled', 'expired'])

function boundBatch({ body, bytes, headers }: WireRequest, options: BoundOptions): RequestBound {
  const requests = requestsOf(body)
  if (requests.length === 0) throw new TypeError('Expected `requests` to hold at least one request, got none.')
  if (requests.length > MAX_BATCH_REQUESTS)
    throw new RangeError(`Expected \`requests\` to hold at most ${MAX_BATCH_REQUESTS} requests, got ${requests.length}.`)
  const lengths = requests.map(({ params }) => Buffer.byteLength(JSON.stringify(params)))
  // What is around the requests, or was written twice in them, counts with the first, so that no byte counts nowhere.
  lengths[0]! += Math.max(0, bytes - lengths.reduce((sum, one) => sum + one, 0))
  const betas = betasOf(headers)
  const ids = new Set<unknown>()
  const parts = requests.map(({ custom_id: id, params }, at) => {
    if (typeof id !== 'string' || ids.has(id))
      throw new TypeError(`Expected each request of the batch to have a \`custom_id\` of its own; request ${at} has none.`)
    ids.add(id)
    const part = boundAnthropicRequest(params, lengths[at]!, options, betas)
    if (!part.capSet)
      throw unmetered(`Request ${at} of the batch has no \`max_tokens\`, so its cost has no bound`, 'Set `max_tokens` in each request')
    return part
  })
  const keys = new Set(requests.map(({ params }) => JSON.stringify(messages.modelOf({ path: '', headers, body: params, bytes: 0 }))))
  if (keys.size > 1)
    throw unmetered('The requests of the batch have several models, speeds or places, and so several prices', 'Send one model per batch')
  return {
    model: parts[0]!.model,
    inputTokens: parts.reduce((sum, { inputTokens }) => sum + inputTokens, 0),
    outputTokensPerChoice: parts.reduce((most, { outputTokensPerChoice }) => Math.max(most, outputTokensPerChoice), 0),
    choices: 1,
    named: parts.some(({ named }) => named),
    hostedTools: [],
    capSet: true,
    parts,
  }
}

/** What is no request is one without anything in it, and is refused as such. */
function requestsOf({ requests }: Body): readonly BatchRequest[] {
  if (!Array.isArray(requests)) return []
  return (requests as readonly unknown[]).map((one) => ({ ...asBody(one), params: asBody(asBody(one)['params']) }))
}

function capped({ params, ...others }: BatchRequest, cap: number): BatchRequest {
  return { ...others, params: { ...params, max_tokens: Math.min(cap, Number(params['max_tokens'])) } }
}

function decisive(params: Body): Body {
  const { speed, inference_geo, tools, container } = params
  const place = { speed, inference_geo }
  if (!paysForCodeExecution(params)) return place
  const kinds = (Array.isArray(tools) ? tools : []).map(asBody).map(({ type, max_uses }) => ({ type, max_uses }))
  return { ...place, container, tools: kinds }
}

function asBody(value: unknown): Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Body) : {}
}
