// Calls that go on after their answer (`background: true`): the hold of each stays open until a later answer, to a poll,
// a resumed stream or a cancellation, tells what it used. Its deadline charges it at worst meanwhile, and a later answer
// corrects that.

import type { Settlement } from '../../src/waist/hold.ts'
import type { Scope } from '../../src/waist/scope.ts'
import type { ModelCall } from '../common/model-call.ts'
import { eventOf, type Body, type EventReader, type Wire } from '../wires/wire.ts'
import { settleFound } from './exchange.ts'
import { parseJson, type ReadRequest } from './request-body.ts'
import { responseWith } from './response-with.ts'
import { createEventSplitter, dataOf } from './sse.ts'

/** What settles a call: its scope, its price, and its hold. */
export interface OpenCall {
  readonly scope: Scope
  readonly call: ModelCall
  readonly settlement: Settlement
}

/** The calls of one guard that go on in the background. */
export interface Backgrounds {
  readonly size: number
  /** Looks for the id of a call as its answers pass; of one that is not in the background it changes nothing. */
  follow(asked: ReadRequest, open: OpenCall): { readonly wire: Wire; readonly stillRuns?: () => boolean }
  /** Sends a request that may tell how such a call ended, and settles it by what comes back. */
  watch(path: string, send: () => Promise<Response>): Promise<Response>
}

/** Statuses of a response that is not finished. */
const RUNNING: ReadonlySet<unknown> = new Set(['queued', 'in_progress'])
const STATUS_EVENT = /"type":\s*"response\.(?:created|queued|in_progress)"/
/** `…/responses/{id}`, and what cancels it. */
const ONE_RESPONSE = /\/responses\/([^/]+)(?:\/cancel)?\/?$/
const MAX_ID_LENGTH = 256

/** Makes a bounded memory of open calls. */
export function createBackgrounds(max: number): Backgrounds {
  const running = new Map<string, OpenCall & { readonly wire: Wire; readonly original: Body }>()

  function remember(id: string, asked: ReadRequest, open: OpenCall): void {
    // One answer tells of one call: of the other nobody will ever know.
    void running
      .get(id)
      ?.settlement.charge('another call has the same id')
      .catch(() => undefined)
    running.set(id, { ...open, wire: asked.wire, original: asked.request.body })
    if (running.size <= max) return
    const [oldest, { scope, settlement }] = running.entries().next().value!
    running.delete(oldest)
    // Nobody waits for it: what the store does not take now, it is told again.
    void settlement.charge('too many calls are open in the background').catch(() => undefined)
    const message = `More than ${max} calls are open in the background, so the oldest was charged at its worst case. Retrieve them, or raise \`maxBackgrounds\`.`
    scope.report({ type: 'assumed', message })
  }

  /** Ends a call by an answer that shows it; one that shows it running leaves it open. */
  async function end(id: string, shown: Body): Promise<void> {
    const open = running.get(id)
    if (open === undefined || shown['id'] !== id || typeof shown['status'] !== 'string' || RUNNING.has(shown['status'])) return
    running.delete(id)
    const { wire, original, call, scope, settlement } = open
    await settleFound({ scope, call, settlement }, wire.findIn(shown, original))
  }

  return {
    get size() {
      return running.size
    },
    follow(asked, open) {
      if (asked.wire.name !== 'responses' || asked.request.body['background'] !== true) return { wire: asked.wire }
      let seen: Body = {}
      const note = (shown: Body): void => void (seen = shown)
      return {
        wire: noting(asked.wire, note),
        stillRuns() {
          const { id, status } = seen
          if (typeof id !== 'string' || id.length > MAX_ID_LENGTH || !RUNNING.has(status)) return false
          remember(id, asked, open)
          return true
        },
      }
    },
    async watch(path, send) {
      const id = ONE_RESPONSE.exec(path)?.[1]
      const open = id === undefined ? undefined : running.get(id)
      const response = await send()
      if (id === undefined || open === undefined || !response.ok || response.body === null) return response
      if ((response.headers.get('content-type') ?? '').toLowerCase().includes('text/event-stream'))
        return responseWith(response, response.body.pipeThrough(watching(open.wire.events(open.original), async (shown) => end(id, shown))))
      const text = await response.text()
      const shown = parseJson(text)
      if (typeof shown === 'object' && shown !== null) await end(id, shown as Body)
      return responseWith(response, text)
    },
  }
}

/** The same format, telling what each answer shows of its call. */
function noting(wire: Wire, note: (shown: Body) => void): Wire {
  return {
    ...wire,
    findIn(answer, original) {
      note(answer)
      return wire.findIn(answer, original)
    },
    events(original, options) {
      const events = wire.events(original, options)
      return {
        get found() {
          return events.found
        },
        get ended() {
          return events.ended
        },
        look(data) {
          const passes = events.look(data)
          if (STATUS_EVENT.test(data)) note(responseIn(data))
          // What has ended runs no more, whether or not it said what it used.
          else if (events.ended) note({})
          return passes
        },
      }
    },
  }
}

/** Looks at a stream as it passes, and ends the call before its caller sees that it has ended. */
function watching(events: EventReader, end: (shown: Body) => Promise<void>): TransformStream<Uint8Array, Uint8Array> {
  const splitter = createEventSplitter()
  const look = async (event: Uint8Array): Promise<void> => {
    const data = dataOf(event)
    const before = events.ended
    events.look(data)
    if (events.ended && !before) await end(responseIn(data))
  }
  return new TransformStream({
    async transform(chunk, controller) {
      for (const event of splitter.push(chunk)) await look(event)
      controller.enqueue(chunk)
    },
    async flush() {
      await look(splitter.rest())
    },
  })
}

function responseIn(data: string): Body {
  const response = eventOf(data)?.['response']
  return typeof response === 'object' && response !== null ? (response as Body) : {}
}
