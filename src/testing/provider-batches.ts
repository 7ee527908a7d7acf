// Batches of messages at the simulated provider: begun by one request, ended at the next look, and read as JSON lines.
// Format: https://platform.claude.com/docs/en/build-with-claude/batch-processing (looked up 2026-11-22).

import { newId } from '../lib/ids.ts'
import type { MediaAnswer, MediaCharge, MediaReply, MediaRequest } from './provider-media.ts'

/** How one request of a batch ends. */
export interface BatchResult {
  /** Only one that succeeded is billed. @default 'succeeded' */
  readonly type?: 'succeeded' | 'errored' | 'canceled' | 'expired'
  /** @default 7 and 3 */
  readonly usage?: { readonly inputTokens: number; readonly outputTokens: number }
  /** False: it is billed all the same, and its line says nothing of it. @default true */
  readonly told?: boolean
  /** False: it is billed all the same, and has no line. @default true */
  readonly listed?: boolean
}

/** The batches of a provider. */
export interface Batches {
  /** Answers a request; nothing for a path that is none of a batch. */
  reply(method: string, target: URL, bytes: Uint8Array): MediaReply | undefined
  reset(): void
}

/** Makes them. `script` decides each batch, `charge` is called in full before it is answered. */
export function createBatches(script: (request: Omit<MediaRequest, 'index'>) => MediaAnswer, charge: (line: MediaCharge) => void): Batches {
  const begun = new Map<string, { readonly lines: readonly string[]; readonly counts: Counts; cutAfter: number | undefined }>()

  function begin(bytes: Uint8Array, origin: string): MediaReply {
    const body = JSON.parse(Buffer.from(bytes).toString('utf8')) as { requests: { custom_id: string; params: { model: string } }[] }
    const { status = 200, results = (): BatchResult => ({}), cutAfter } = script({ path: 'messages/batches', body: { ...body } })
    if (status !== 200) return json({ type: 'error', error: { type: 'api_error', message: 'A simulated failure.' } }, status)
    const id = `msgbatch_${newId()}`
    const counts: Counts = { ...NONE }
    const lines = body.requests.flatMap(({ custom_id, params: { model } }, at) => {
      const { type = 'succeeded', usage = { inputTokens: 7, outputTokens: 3 }, told = true, listed = true } = results(custom_id, at)
      counts[type] += 1
      if (type === 'succeeded') charge({ id: `msg_${newId()}`, endpoint: 'messages/batches', model, ...usage })
      const reported = { input_tokens: usage.inputTokens, output_tokens: usage.outputTokens, service_tier: 'batch' }
      const message = { id: `msg_${newId()}`, type: 'message', role: 'assistant', model, content: [], ...(told && { usage: reported }) }
      const result = type === 'succeeded' ? { type, message } : { type, ...(type === 'errored' && { error: { type: 'error' } }) }
      return listed ? [`${JSON.stringify({ custom_id, result })}\n`] : []
    })
    if (begun.size < MAX_BEGUN) begun.set(id, { lines, counts, cutAfter })
    return json(shown(id, 'in_progress', origin, { ...NONE, processing: lines.length }))
  }

  return {
    reply(method, { pathname, origin }, bytes) {
      if (method === 'POST' && pathname === '/v1/messages/batches') return begin(bytes, origin)
      const [, id, action] = /^\/v1\/messages\/batches\/([^/]+)(?:\/(results|cancel))?$/.exec(pathname) ?? []
      const batch = id === undefined ? undefined : begun.get(id)
      if (id === undefined || batch === undefined) return undefined
      if (action !== 'results')
        return json(action === 'cancel' ? shown(id, 'canceling', origin, NONE) : shown(id, 'ended', origin, batch.counts))
      const { lines, cutAfter } = batch
      // They break off once, and can be read again.
      batch.cutAfter = undefined
      return { status: 200, type: 'application/x-jsonl', body: '', frames: lines, ...(cutAfter === undefined ? {} : { cutAfter }) }
    },
    reset: () => begun.clear(),
  }
}

const MAX_BEGUN = 1_000

/** How many requests of a batch ended how; all of them are running until it has ended. */
type Counts = Record<'processing' | 'succeeded' | 'errored' | 'canceled' | 'expired', number>
const NONE: Readonly<Counts> = { processing: 0, succeeded: 0, errored: 0, canceled: 0, expired: 0 }

function shown(id: string, status: string, origin: string, counts: Readonly<Counts>): object {
  const url = status === 'ended' ? `${origin}/v1/messages/batches/${id}/results` : null
  return { id, type: 'message_batch', processing_status: status, request_counts: counts, results_url: url }
}

function json(body: object, status = 200): MediaReply {
  return { status, type: 'application/json', body: JSON.stringify(body) }
}
