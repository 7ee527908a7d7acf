// JSON objects that come one after the other, in lines or as the items of one array: found by their braces, wherever
// the chunks of a connection cut them.

/** Splits a stream of bytes into the texts of its outermost objects. */
export interface ObjectSplitter {
  /** Takes a chunk; returns the objects that are complete now, as text. */
  push(chunk: Uint8Array): readonly string[]
}

/** Largest object that is looked at; a longer one is no chunk of a provider. */
const MAX_OBJECT_BYTES = 32 * 1024 * 1024

const QUOTE = 34
const BACKSLASH = 92
const OPEN = 123
const CLOSE = 125

/** Makes a splitter. @throws {RangeError} from `push` for an object beyond 32 MB. */
export function createObjectSplitter(): ObjectSplitter {
  // Of the object that is being read: its bytes from earlier chunks, and where in it the reader stands.
  let pieces: Uint8Array[] = []
  let length = 0
  let depth = 0
  let inString = false
  let escaped = false

  function keep(piece: Uint8Array): void {
    length += piece.length
    if (length > MAX_OBJECT_BYTES) throw new RangeError(`An object of a stream is longer than ${MAX_OBJECT_BYTES} bytes.`)
    // A copy, since whoever reads the chunk next may reuse its memory.
    pieces.push(piece.slice())
  }

  function takeObject(): string {
    const text = Buffer.concat(pieces).toString('utf8')
    pieces = []
    length = 0
    return text
  }

  return {
    push(chunk) {
      const objects: string[] = []
      let from = 0
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at]!
        if (escaped) escaped = false
        else if (inString) {
          if (byte === BACKSLASH) escaped = true
          else if (byte === QUOTE) inString = false
        } else if (byte === OPEN) {
          if (depth++ === 0) from = at
        } else if (depth === 0) continue
        else if (byte === QUOTE) inString = true
        else if (byte === CLOSE && --depth === 0) {
          keep(chunk.subarray(from, at + 1))
          objects.push(takeObject())
        }
      }
      if (depth > 0) keep(chunk.subarray(from))
      return objects
    },
  }
}
