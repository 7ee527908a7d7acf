// Server-sent events as bytes: an event is passed on exactly as it came, or not at all.
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html

/** Splits a stream of bytes into whole events. */
export interface EventSplitter {
  /** True between two events: nothing is kept for the next chunk. */
  readonly isBetween: boolean
  /** Takes a chunk; returns the events that are complete now, each with the blank line that ends it. */
  push(chunk: Uint8Array): readonly Uint8Array[]
  /** What came after the last complete event; asked for once, at the end. */
  rest(): Uint8Array
}

/** Largest event that is looked at; a longer one is no event of a provider. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024

const NEWLINE = 10
const CARRIAGE_RETURN = 13

/** Makes a splitter. @throws {RangeError} from `push` for an event beyond 32 MB. */
export function createEventSplitter(): EventSplitter {
  const pending = createBuffer()
  // Of the line that is being read: its length so far, and whether it begins with a carriage return.
  let lineLength = 0
  let lineReturns = false

  return {
    get isBetween() {
      return lineLength === 0 && pending.isEmpty
    },
    push(chunk) {
      const events: Uint8Array[] = []
      let eventAt = 0
      let lineAt = 0
      for (let newline = chunk.indexOf(NEWLINE); newline >= 0; newline = chunk.indexOf(NEWLINE, lineAt)) {
        if (lineLength === 0) lineReturns = chunk[lineAt] === CARRIAGE_RETURN
        const length = lineLength + newline - lineAt
        lineAt = newline + 1
        lineLength = 0
        if (length > 1 || (length === 1 && !lineReturns)) continue
        events.push(pending.takeWith(chunk.subarray(eventAt, lineAt)))
        eventAt = lineAt
      }
      if (lineLength === 0) lineReturns = chunk[lineAt] === CARRIAGE_RETURN
      lineLength += chunk.length - lineAt
      pending.keep(chunk.subarray(eventAt))
      return events
    },
    rest: () => pending.takeWith(new Uint8Array(0)),
  }
}

/** Whether bytes that begin an event end one too, so that nothing of them belongs to the next. */
export function endsEvent(chunk: Uint8Array): boolean {
  const end = chunk.length
  if (end < 2 || chunk[end - 1] !== NEWLINE) return false
  return chunk[end - 2] === NEWLINE || (end > 2 && chunk[end - 2] === CARRIAGE_RETURN && chunk[end - 3] === NEWLINE)
}

/** Bytes of an event that is not whole yet. It grows by doubling, so that an event in many chunks is not copied at each of them. */
function createBuffer() {
  let bytes = new Uint8Array(0)
  let length = 0

  function keep(chunk: Uint8Array): void {
    const needed = length + chunk.length
    if (needed > MAX_EVENT_BYTES) throw new RangeError(`An event is longer than ${MAX_EVENT_BYTES} bytes.`)
    if (needed > bytes.length) {
      const larger = new Uint8Array(Math.max(needed, bytes.length * 2))
      larger.set(bytes.subarray(0, length))
      bytes = larger
    }
    bytes.set(chunk, length)
    length = needed
  }

  return {
    keep,
    get isEmpty() {
      return length === 0
    },
    /** All that was kept, and this after it. */
    takeWith(chunk: Uint8Array): Uint8Array {
      if (length === 0) return chunk
      keep(chunk)
      const whole = bytes.subarray(0, length)
      bytes = new Uint8Array(0)
      length = 0
      return whole
    },
  }
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
