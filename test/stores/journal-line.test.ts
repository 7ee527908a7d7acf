// A line of the journal: what is written is what is read, and whatever a crash or a change makes of a line is
// told apart. Random lines by fast-check; positions and cuts exhaustively.

import { array, assert, integer, jsonValue, maxSafeInteger, nat, property, record, string, uint8Array, type Arbitrary } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalJson, type Json } from '../../src/lib/canonical-json.ts'
import { sha256 } from '../../src/lib/ids.ts'
import { encodeLine, lineEnding, readLine, walkChain, type JournalLine } from '../../src/stores/journal/line.ts'
import { times } from '../../src/testing/store-bench.ts'

const TAIL_BYTES = ',"h":""}'.length + 43
const HASH = sha256('start')
const SHORTEST_PIECE = '{"n":'.length
const HEADER_BYTES = '{"n":171,"p":"'.length

const key = string({ unit: 'binary', minLength: 1, maxLength: 20 })
const value = jsonValue({ maxDepth: 3 }).map((json) => JSON.parse(JSON.stringify(json)) as Json)
const batch = record({
  check: array(record({ key, version: nat() }), { maxLength: 3 }),
  add: array(record({ key, by: maxSafeInteger(), min: maxSafeInteger(), max: maxSafeInteger() }, { requiredKeys: ['key', 'by'] }), {
    maxLength: 3,
  }),
  set: array(record({ key, value, expiresAtMs: nat() }, { requiredKeys: ['key', 'value'] }), { maxLength: 3 }),
  delete: array(key, { maxLength: 3 }),
})
const line: Arbitrary<JournalLine> = record({
  previous: string().map((text) => sha256(text)),
  writer: nat().map((writes) => `AbC-_0123456:${writes}`),
  timeMs: maxSafeInteger().map(Math.abs),
  batches: array(batch, { minLength: 1, maxLength: 3 }),
})

function bytesOf(given: JournalLine): Buffer {
  return Buffer.from(encodeLine(given).text)
}

function lineOf(set: Json, previous = HASH): JournalLine {
  return {
    previous,
    writer: 'w:1',
    timeMs: 1,
    batches: [{ add: [{ key: 'free/usd/acme', by: -5, min: 0 }], set: [{ key: 'k', value: set }] }],
  }
}

function changed(bytes: Buffer, at: number, to: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = to
  return copy
}

// Values that look like parts of a line themselves: a reader that looks for marks must not fall for them.
const LOOKALIKES: readonly Json[] = [
  { a: 1, h: HASH },
  [{ h: HASH }, { n: 171, p: HASH, w: 'x:1', h: HASH }],
  { n: 99_999_999, p: HASH },
  `","h":"${HASH}"}`,
  '{"n":171,"p":"',
]

describe('a whole line', () => {
  test('reads back as what was written', () => {
    assert(
      property(line, (given) => {
        const { text, hash } = encodeLine(given)
        expect(readLine(Buffer.from(text))).toEqual({ kind: 'line', hash, line: given })
      }),
    )
  })

  test('is JSON on one line, says its own length and ends with its own hash', () => {
    assert(
      property(line, (given) => {
        const { text, hash } = encodeLine(given)
        const { n, p, w, t, h } = JSON.parse(text) as Record<string, unknown>
        expect({ n, p, w, t, h }).toEqual({ n: Buffer.byteLength(text), p: given.previous, w: given.writer, t: given.timeMs, h: hash })
        expect(text).not.toMatch(/[\n\r]/)
        expect(hash).toBe(sha256(text.slice(0, -TAIL_BYTES)))
        expect(`${text}\n`.endsWith(lineEnding(hash))).toBe(true)
      }),
    )
  })

  test('says its length also where that length has one digit more', () => {
    for (const around of [1_000, 10_000, 100_000]) {
      for (const size of times(240, (index) => around - 240 + index)) {
        const { text } = encodeLine(lineOf('x'.repeat(size)))
        expect(JSON.parse(text)).toMatchObject({ n: text.length })
      }
    }
  })

  test('keeps values that look like parts of a line', () => {
    for (const lookalike of LOOKALIKES) {
      const reading = readLine(bytesOf(lineOf(lookalike)))
      expect(reading.kind === 'line' && canonicalJson(reading.line.batches[0]?.set?.[0]?.value)).toBe(canonicalJson(lookalike))
    }
  })

  test('that carries an operation nobody knows, or none at all, is damage and no surprise', () => {
    for (const body of ['"b":[{"o":[["z","k"]]}]', '"b":[{}]', '"b":7']) {
      const fixed = `,"p":"${HASH}","w":"w:1","t":1,${body}`
      const head = `{"n":${fixed.length + TAIL_BYTES + 8}${fixed}`
      expect(readLine(Buffer.from(`${head},"h":"${sha256(head)}"}`)).kind).toBe('damage')
    }
  })
})

describe('a line that was cut', () => {
  test('is torn at every byte', () => {
    assert(
      property(line, (given) => {
        const bytes = bytesOf(given)
        const kinds = new Set(times(bytes.length, (length) => readLine(bytes.subarray(0, length)).kind))
        expect(kinds).toEqual(new Set(['torn']))
      }),
      { numRuns: 50 },
    )
  })

  test('is torn also behind a value that looks like the end of a line', () => {
    for (const lookalike of LOOKALIKES) {
      const bytes = bytesOf(lineOf(lookalike))
      for (let length = 0; length < bytes.length; length++) expect(readLine(bytes.subarray(0, length))).toEqual({ kind: 'torn' })
    }
  })

  test('is torn, whole or damage with one byte changed besides, but never a line', () => {
    assert(
      property(line, nat(), nat(), nat(255), (given, cut, position, to) => {
        const whole = bytesOf(given)
        const bytes = whole.subarray(0, 1 + (cut % (whole.length - 1)))
        expect(readLine(changed(bytes, position % bytes.length, to)).kind).not.toBe('line')
      }),
    )
  })

  test('with the next whole line right behind it is torn at every byte, and so is the next one cut again', () => {
    const first = bytesOf(lineOf('first'))
    for (const second of [bytesOf(lineOf('second')), bytesOf(lineOf('x'.repeat(500)))]) {
      for (let length = 1; length < first.length; length++) {
        const torn = first.subarray(0, length)
        expect(readLine(Buffer.concat([torn, second]))).toEqual({ kind: 'torn' })
        for (const cut of [20, 60, second.length - 1])
          expect(readLine(Buffer.concat([torn, second.subarray(0, cut)]))).toEqual({ kind: 'torn' })
      }
    }
  })

  test('of nothing but its newline is torn with another line right behind it, whole or cut again, that names another line', () => {
    for (const lookalike of LOOKALIKES) {
      const first = bytesOf(lineOf(lookalike))
      const second = bytesOf(lineOf('second'))
      for (let length = SHORTEST_PIECE; length <= second.length; length++) {
        expect(readLine(Buffer.concat([first, second.subarray(0, length)]))).toEqual({ kind: 'torn' })
      }
    }
  })

  test('with others that were cut right behind it, wherever, is torn, with a whole line at the end and without', () => {
    const cut = record({ size: nat(300), cut: nat() }).map(({ size, cut: at }) => {
      const bytes = bytesOf(lineOf('x'.repeat(size)))
      return bytes.subarray(0, bytes.length - (at % bytes.length))
    })
    assert(
      property(array(cut, { minLength: 1, maxLength: 5 }), nat(300), nat(1), (cuts, size, cutLast) => {
        const last = bytesOf(lineOf('y'.repeat(size)))
        expect(readLine(Buffer.concat([...cuts, last.subarray(0, last.length - cutLast)]))).toEqual({ kind: 'torn' })
      }),
      { numRuns: 3_000 },
    )
  })

  test('within its first four bytes, last behind one that lacks only its newline, is damage: so a changed newline looks too', () => {
    const first = bytesOf(lineOf('first'))
    for (let length = 1; length < SHORTEST_PIECE; length++) {
      expect(readLine(Buffer.concat([first, first.subarray(0, length)])).kind).toBe('damage')
    }
  })

  test('with a line right behind it that names one of the same run is damage: somebody had read that with its newline', () => {
    const first = encodeLine(lineOf('first'))
    const second = bytesOf(lineOf('second', first.hash))
    const [torn, other] = [Buffer.from(first.text).subarray(0, 90), bytesOf(lineOf('other'))]
    const nameEndsAt = second.indexOf('","w"')
    for (let length = nameEndsAt; length <= second.length; length++) {
      for (const before of [[], [torn]]) {
        for (const between of [[], [torn], [other]]) {
          const run = [...before, Buffer.from(first.text), ...between, second.subarray(0, length)]
          expect(readLine(Buffer.concat(run)).kind).toBe('damage')
        }
      }
    }
  })

  test('of nothing but its newline, and changed besides, is damage with another line right behind it', () => {
    const first = bytesOf(lineOf('first'))
    const second = bytesOf(lineOf('second'))
    for (let at = HEADER_BYTES; at < first.length; at++) {
      for (const length of [60, second.length])
        expect(readLine(Buffer.concat([changed(first, at, first[at]! ^ 1), second.subarray(0, length)])).kind).toBe('damage')
    }
  })

  test('with a damaged line right behind it is damage', () => {
    const torn = bytesOf(lineOf('first')).subarray(0, 100)
    const second = bytesOf(lineOf('second'))
    for (const at of [50, 100, second.length - 10]) expect(readLine(Buffer.concat([torn, changed(second, at, 0)])).kind).toBe('damage')
  })
})

describe('a line that was changed', () => {
  test('is damage for every other value of every byte', () => {
    const bytes = bytesOf(lineOf({ a: [1, 'é'] }))
    const kinds = new Set<string>()
    for (let at = 0; at < bytes.length; at++) {
      for (let to = 0; to < 256; to++) if (to !== bytes[at]) kinds.add(readLine(changed(bytes, at, to)).kind)
    }
    expect(kinds).toEqual(new Set(['damage']))
  })

  test('is damage wherever one byte of a random line is changed', () => {
    assert(
      property(line, nat(), integer({ min: 1, max: 255 }), (given, position, by) => {
        const bytes = bytesOf(given)
        const at = position % bytes.length
        expect(readLine(changed(bytes, at, bytes[at]! ^ by)).kind).toBe('damage')
      }),
      { numRuns: 2_000 },
    )
  })

  // The exception is stated, not hidden: such a line, last in the file, is found by `store.holds`.
  test('is damage whatever its values look like, but for its end mark behind what looks like a longer line', () => {
    for (const [index, lookalike] of LOOKALIKES.entries()) {
      const bytes = bytesOf(lineOf(lookalike))
      for (let at = 0; at < bytes.length; at++) {
        const { kind } = readLine(changed(bytes, at, bytes[at]! ^ 1))
        const inEndMark = at >= bytes.length - 2 || (at >= bytes.length - TAIL_BYTES && at < bytes.length - 45)
        expect(kind).toBe(index === 2 && inEndMark ? 'torn' : 'damage')
      }
    }
  })

  test('is damage with a byte more or less', () => {
    const bytes = bytesOf(lineOf('text'))
    for (let at = 6; at < bytes.length; at++) {
      expect(readLine(Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])).kind).not.toBe('line')
      expect(readLine(Buffer.concat([bytes.subarray(0, at), Buffer.from('x'), bytes.subarray(at)])).kind).toBe('damage')
    }
  })

  test('is damage when two whole lines have lost the newline between them', () => {
    const first = encodeLine(lineOf('first'))
    const second = encodeLine(lineOf('second', first.hash))
    for (const between of ['', 'x', '{', ' ']) expect(readLine(Buffer.from(first.text + between + second.text)).kind).toBe('damage')
  })

  test('is no line whatever the bytes are', () => {
    assert(
      property(uint8Array({ minLength: 1, maxLength: 200 }), (noise) => {
        expect(readLine(Buffer.from(noise)).kind).not.toBe('line')
      }),
    )
  })
})

describe('the chain', () => {
  const lines = times(5, () => '').reduce<{ text: string; hash: string }[]>((chain, _, index) => {
    return [...chain, encodeLine(lineOf(index, chain.at(-1)?.hash ?? HASH))]
  }, [])

  test('is walked to every accepted line, past torn and stale ones', () => {
    const stale = encodeLine(lineOf('late', lines[0]!.hash))
    const texts = [
      ...lines.slice(0, 3).map(({ text }) => text),
      stale.text,
      stale.text.slice(0, 90),
      '',
      ...lines.slice(3).map(({ text }) => text),
    ]
    const segment = Buffer.from(`${texts.join('\n')}\n`)
    expect([...walkChain(segment, HASH)]).toEqual(lines.map(({ hash }) => hash))
    expect([...walkChain(segment, sha256('nobody'))]).toEqual([])
  })

  test('is walked past a cut line and the one glued to it that together are as long as the first one says', () => {
    const [cut, glued] = [encodeLine(lineOf('x'.repeat(300))), encodeLine(lineOf('glued'))]
    const run = cut.text.slice(0, cut.text.length - glued.text.length) + glued.text
    expect(run.length).toBe(cut.text.length)
    expect(readLine(Buffer.from(run))).toEqual({ kind: 'torn' })
    const lookalike = encodeLine(lineOf(LOOKALIKES[2]!))
    const next = encodeLine(lineOf('next', lookalike.hash))
    const segment = Buffer.from(`${run}\n${lookalike.text}\n${next.text}\n`)
    expect([...walkChain(segment, HASH)]).toEqual([lookalike.hash, next.hash])
  })

  test('ends where a line is missing, and at the last newline', () => {
    const [first, , third] = lines
    expect([...walkChain(Buffer.from(`${first!.text}\n${third!.text}\n`), HASH)]).toEqual([first!.hash])
    expect([...walkChain(Buffer.from(first!.text), HASH)]).toEqual([])
  })
})
