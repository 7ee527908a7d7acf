// A stream of events, passed on as it comes, with its usage taken at the end. The caller's end of the stream
// comes after the hold has been settled, so whoever has read the answer to its end sees it in the budget.

import { Refusal } from '../../src/lib/errors.ts'
import { cutWith } from '../common/cut-with.ts'
import { createObjectSplitter } from './json-objects.ts'
import { createEventSplitter, dataOf, endsEvent } from './sse.ts'
import type { EventReader, Finding } from '../wires/wire.ts'
import { endBroken, faultOf, settleFound, type Exchange } from './exchange.ts'

/** What separates the parts of a stream: server-sent events, or the braces of JSON objects. */
export type Framing = 'events' | 'objects'

/** An exchange whose answer is a stream. */
export interface StreamExchange extends Exchange {
  readonly framing: Framing
}

/** Wraps the body of a streamed answer. Errors with the `Refusal` when its hold is cut, or a further step of it refused. */
export function meteredStream(
  body: ReadableStream<Uint8Array>,
  upstream: AbortController,
  signal: AbortSignal | undefined,
  exchange: StreamExchange,
): ReadableStream<Uint8Array> {
  const { hold, steps, drains } = exchange
  const reader = body.getReader()
  const meter = createMeter(exchange)
  // Aborted when the caller reads no further: it has everything, it left, or the stream broke or was cut.
  const parted = new AbortController()
  let hasParted = false
  let settling: Promise<void> | undefined
  const part = (): void => {
    hasParted = true
    parted.abort()
  }
  const settleOnce = (): Promise<void> => (settling ??= settleFound(exchange, meter.found))
  const endBrokenOnce = (reason: string): Promise<void> => (settling ??= endBroken(exchange, meter.found, reason))

  /** Reads on without the caller. */
  const drain = async (): Promise<void> => {
    while (!meter.ended) {
      const { done, value } = await reader.read()
      if (done) {
        meter.rest()
        break
      }
      meter.push(value)
      await steps?.cover(meter.outputBytes)
    }
    await settleOnce()
    await reader.cancel()
  }
  const leave = (reason: string): void => {
    if (hasParted) return
    part()
    if (settling !== undefined) upstream.abort()
    else drains.run(upstream, drain, () => endBrokenOnce(reason))
  }

  /** Passes on the next chunk. Plain promises: this runs for every chunk of every stream. */
  function passNext(controller: Controller): Promise<void> {
    return reader.read().then(({ done, value }) => {
      // Counted even when the caller has left meanwhile: the drain goes on behind this chunk.
      const out = done ? meter.rest() : meter.push(value)
      if (hasParted) return undefined
      if (done || meter.ended || steps !== undefined) return passOn(controller, out, done)
      for (const bytes of out) controller.enqueue(bytes)
      // One chunk may hold no whole event; the caller asked for something, so go on until there is.
      return out.length === 0 ? passNext(controller) : undefined
    })
  }

  /** Passes on what has to wait for a hold, or for the end of one. */
  async function passOn(controller: Controller, out: readonly Uint8Array[], done: boolean): Promise<void> {
    if (done || meter.ended) await settleOnce()
    else await steps?.cover(meter.outputBytes, signal)
    if (hasParted) return
    for (const bytes of out) controller.enqueue(bytes)
    if (done) {
      part()
      controller.close()
    } else if (out.length === 0) await passNext(controller)
  }

  /** What broke may be the event rather than the connection, which would go on for nobody; so would what was refused. */
  async function breakOff(controller: Controller, error: unknown): Promise<void> {
    if (hasParted) return
    part()
    upstream.abort()
    await endBrokenOnce(Refusal.isInstance(error) ? `the stream was cut: ${error.code}` : `the stream broke off: ${faultOf(error)}`)
    controller.error(error)
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      const end = (error: unknown, reason: string): void => {
        if (hasParted) return
        controller.error(error)
        leave(reason)
      }
      const abort = (): void => end(signal!.reason, LEFT)
      if (signal?.aborted === true) abort()
      else signal?.addEventListener('abort', abort, { once: true, signal: parted.signal })
      // What has been settled is over: only the last bytes of it are on their way.
      cutWith(hold, (refusal) => end(refusal, `the stream was cut: ${refusal.code}`), parted.signal)
    },
    pull: (controller) => passNext(controller).catch((error: unknown) => breakOff(controller, error)),
    cancel: () => leave(LEFT),
  })
}

const LEFT = 'the caller left the stream, and it was not read to its end'

type Controller = ReadableStreamDefaultController<Uint8Array>

/** Looks at events as they pass. */
interface Meter extends Pick<EventReader, 'found' | 'ended'> {
  /** Bytes of output that have come, as far as they are counted. */
  readonly outputBytes: number
  /** Takes a chunk; returns what is to be passed on. */
  push(chunk: Uint8Array): readonly Uint8Array[]
  rest(): readonly Uint8Array[]
}

function createMeter({ wire, request, steps, framing }: StreamExchange): Meter {
  const events = wire.events(request.body, { countOutput: steps !== undefined })
  const passing = framing === 'events' ? passEvents(events) : passObjects(events)
  let bytes = 0
  return {
    get found() {
      return events.found
    },
    get ended() {
      return events.ended
    },
    get outputBytes() {
      return events.outputBytes ?? bytes
    },
    push(chunk) {
      bytes += chunk.length
      return passing.push(chunk)
    },
    rest: passing.rest,
  }
}

type Passing = Pick<Meter, 'push' | 'rest'>

function passEvents(events: EventReader): Passing {
  const splitter = createEventSplitter()
  const isQuiet = (bytes: Uint8Array): boolean =>
    events.mayMatter?.(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)) === false
  const look = (event: Uint8Array): boolean => isQuiet(event) || events.look(dataOf(event))
  return {
    push(chunk) {
      // Whole events that say nothing to us, as nearly all are: not even split.
      if (splitter.isBetween && endsEvent(chunk) && isQuiet(chunk)) return [chunk]
      return joined(splitter.push(chunk).filter(look))
    },
    rest() {
      const rest = splitter.rest()
      return rest.length > 0 && look(rest) ? [rest] : []
    },
  }
}

/** Nothing is ever taken out of such a stream, so its bytes pass as they come, whole objects or not. */
function passObjects(events: EventReader): Passing {
  const objects = createObjectSplitter()
  return {
    push(chunk) {
      for (const object of objects.push(chunk)) events.look(object)
      return [chunk]
    },
    rest: () => [],
  }
}

/** Neighbours in the same bytes as one piece: a chunk that came with many events is passed on as one again. */
function joined(events: readonly Uint8Array[]): readonly Uint8Array[] {
  if (events.length < 2) return events
  const pieces: Uint8Array[] = []
  let [start, end] = [0, 0]
  let bytes: ArrayBufferLike | undefined
  const flush = (): void => {
    if (bytes !== undefined) pieces.push(new Uint8Array(bytes, start, end - start))
  }
  for (const { buffer, byteOffset, length } of events) {
    if (buffer !== bytes || byteOffset !== end) {
      flush()
      bytes = buffer
      start = byteOffset
    }
    end = byteOffset + length
  }
  flush()
  return pieces
}

/** The usage of a stream that was read as a whole. */
export function findInStream(text: string, exchange: StreamExchange): Finding | undefined {
  const meter = createMeter(exchange)
  meter.push(new TextEncoder().encode(text))
  meter.rest()
  return meter.found
}
