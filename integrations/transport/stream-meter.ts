// A stream of events, passed on as it comes, with its usage taken at the end. The caller's end of the stream
// comes after the hold has been settled, so whoever has read the answer to its end sees it in the budget.

import { createObjectSplitter } from './json-objects.ts'
import { createEventSplitter, dataOf } from './sse.ts'
import type { EventReader, Finding } from '../wires/wire.ts'
import { endBroken, faultOf, settleFound, type Exchange } from './exchange.ts'

/** What separates the parts of a stream: server-sent events, or the braces of JSON objects. */
export type Framing = 'events' | 'objects'

/** An exchange whose answer is a stream. */
export interface StreamExchange extends Exchange {
  readonly framing: Framing
}

/** Wraps the body of a streamed answer. */
export function meteredStream(
  body: ReadableStream<Uint8Array>,
  upstream: AbortController,
  signal: AbortSignal | undefined,
  exchange: StreamExchange,
): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  const meter = createMeter(exchange)
  // Aborted when the caller reads no further: it has everything, it left, or the stream broke.
  const parted = new AbortController()
  let settling: Promise<void> | undefined
  const settleOnce = (): Promise<void> => (settling ??= settleFound(exchange, meter.found))

  /** Reads on without the caller. */
  const drain = async (): Promise<void> => {
    while (!meter.ended) {
      const { done, value } = await reader.read()
      if (done) {
        meter.rest()
        break
      }
      meter.push(value)
    }
    await settleOnce()
    await reader.cancel()
  }
  const leave = (): void => {
    if (parted.signal.aborted) return
    parted.abort()
    if (settling !== undefined) upstream.abort()
    else exchange.drains.run(upstream, drain, () => endBrokenOnce('the caller left the stream, and it was not read to its end'))
  }
  const endBrokenOnce = async (reason: string): Promise<void> => {
    await (settling ??= endBroken(exchange, meter.found, reason))
  }

  async function pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    // One chunk may hold no whole event; the caller asked for something, so go on until there is.
    for (;;) {
      const { done, value } = await reader.read()
      // Counted even when the caller has left meanwhile: the drain goes on behind this chunk.
      const out = done ? meter.rest() : meter.push(value)
      if (parted.signal.aborted) return
      if (done || meter.ended) await settleOnce()
      for (const bytes of out) controller.enqueue(bytes)
      if (done) {
        parted.abort()
        controller.close()
      }
      if (done || out.length > 0) return
    }
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      const abort = (): void => {
        if (parted.signal.aborted) return
        controller.error(signal!.reason)
        leave()
      }
      if (signal?.aborted === true) abort()
      else signal?.addEventListener('abort', abort, { once: true, signal: parted.signal })
    },
    async pull(controller) {
      try {
        await pull(controller)
      } catch (error) {
        if (parted.signal.aborted) return
        parted.abort()
        // What broke may be the event rather than the connection, which would go on for nobody.
        upstream.abort()
        await endBrokenOnce(`the stream broke off: ${faultOf(error)}`)
        controller.error(error)
      }
    },
    cancel: leave,
  })
}

/** Looks at events as they pass. */
interface Meter extends Pick<EventReader, 'found' | 'ended'> {
  /** Takes a chunk; returns what is to be passed on. */
  push(chunk: Uint8Array): readonly Uint8Array[]
  rest(): readonly Uint8Array[]
}

function createMeter({ wire, request, framing }: StreamExchange): Meter {
  const events = wire.events(request.body)
  const passing = framing === 'events' ? passEvents(events) : passObjects(events)
  return {
    get found() {
      return events.found
    },
    get ended() {
      return events.ended
    },
    ...passing,
  }
}

function passEvents(events: EventReader): Pick<Meter, 'push' | 'rest'> {
  const splitter = createEventSplitter()
  const look = (event: Uint8Array): boolean => events.look(dataOf(event))
  return {
    push: (chunk) => splitter.push(chunk).filter(look),
    rest() {
      const rest = splitter.rest()
      return rest.length > 0 && look(rest) ? [rest] : []
    },
  }
}

/** Nothing is ever taken out of such a stream, so its bytes pass as they come, whole objects or not. */
function passObjects(events: EventReader): Pick<Meter, 'push' | 'rest'> {
  const objects = createObjectSplitter()
  return {
    push(chunk) {
      for (const object of objects.push(chunk)) events.look(object)
      return [chunk]
    },
    rest: () => [],
  }
}

/** The usage of a stream that was read as a whole. */
export function findInStream(text: string, exchange: StreamExchange): Finding | undefined {
  const meter = createMeter(exchange)
  meter.push(new TextEncoder().encode(text))
  meter.rest()
  return meter.found
}
