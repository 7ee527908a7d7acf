// Server-sent events as bytes: an event is passed on exactly as it came, or not at all.
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Splits a stream of bytes into whole events. */
export interface EventSplitter {
  /** Takes a chunk; returns the events that are complete now, each with the blank line that ends it. */
  push(chunk: Uint8Array): readonly Uint8Array[]
  /** What came after the last complete event. */
  rest(): Uint8Array
}

/** Largest event that is looked at; a longer one is no event of a provider. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024

const NEWLINE = 10
const CARRIAGE_RETURN = 13

/** Makes a splitter. @throws {RangeError} from `push` for an event beyond 32 MB. */
export function createEventSplitter(): EventSplitter {
  let pending: Uint8Array = new Uint8Array(0)
  // Where the line begins that is being read, within `pending`.
  let lineAt = 0

  return {
    push(chunk) {
      const searchFrom = pending.length
      pending = join(pending, chunk)
      if (pending.length > MAX_EVENT_BYTES) throw new RangeError(`An event is longer than ${MAX_EVENT_BYTES} bytes.`)
      const events: Uint8Array[] = []
      let eventAt = 0
      for (let newline = pending.indexOf(NEWLINE, searchFrom); newline >= 0; newline = pending.indexOf(NEWLINE, newline + 1)) {
        const blank = newline === lineAt || (newline === lineAt + 1 && pending[lineAt] === CARRIAGE_RETURN)
        lineAt = newline + 1
        if (!blank) continue
        events.push(pending.subarray(eventAt, lineAt))
        eventAt = lineAt
      }
      pending = pending.subarray(eventAt)
      lineAt -= eventAt
      return events
    },
    rest: () => pending,
  }
}

function join(one: Uint8Array, other: Uint8Array): Uint8Array {
  if (one.length === 0) return other
  const both = new Uint8Array(one.length + other.length)
  both.set(one)
  both.set(other, one.length)
  return both
}

const decoder = new TextDecoder()

/** The `data` of an event, its lines joined. */
export function dataOf(event: Uint8Array): string {
  return decoder
    .decode(event)
    .split('\n')
    .filter((line) => line.startsWith('data:'))
    .map((line) => line.slice(line.startsWith('data: ') ? 6 : 5).replace(/\r$/, ''))
    .join('\n')
}
