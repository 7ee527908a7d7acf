// No byte of a chain can be another one: every byte of a small chain is replaced by every other byte, removed and
// doubled; then random chains meet random changes. `ok` is said of the very same bytes only.

import { writeFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openChain } from '../../src/audit/chain.ts'
import { verifyAudit, verifyChain, type ChainVerdict, type StoredHead } from '../../src/audit/verify.ts'
import type { Json } from '../../src/lib/canonical-json.ts'
import type { LogKind } from '../../src/waist/log.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { chainFile, headOf, storeWithHeads, temporaryDirectory, writeChain } from './chains.ts'

const NEWLINE = 10

type Entry = readonly [kind: LogKind, fields: Readonly<Record<string, Json>>]

function linesOf(entries: readonly Entry[]): readonly string[] {
  const chain = openChain({ boot: 'c', clock: settableClock(), durable: false })
  for (const [kind, fields] of entries) chain.append(kind, fields)
  return chain.lines
}

function bytesOf(lines: readonly string[]): Buffer {
  return Buffer.from(lines.map((line) => `${line}\n`).join(''))
}

/** Verifies bytes as a file has them: whole lines, and a rest that is no record. */
function verify(bytes: Buffer, stored: StoredHead): Promise<ChainVerdict> {
  const lines: Buffer[] = []
  let start = 0
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, end))
    start = end + 1
  }
  return verifyChain('c', lines, stored)
}

const SMALL: readonly Entry[] = [
  ['open', { host: 'h\u00f6st' }],
  ['intent', { amounts: { usd: 7 }, resource: 'a"\\\ufffd\u{1f916}' }],
  ['close', { unsent: 0 }],
]

/** The record that a byte belongs to, its newline included. */
function recordAt(bytes: Buffer, at: number): number {
  return bytes.subarray(0, at).filter((byte) => byte === NEWLINE).length
}

function swapped(bytes: Buffer, at: number): Buffer | undefined {
  if (at + 1 === bytes.length || bytes[at] === bytes[at + 1]) return undefined
  return Buffer.concat([bytes.subarray(0, at), Buffer.from([bytes[at + 1]!, bytes[at]!]), bytes.subarray(at + 2)])
}

describe('in a chain of three records', () => {
  const lines = linesOf(SMALL)
  const bytes = bytesOf(lines)
  const head = headOf(lines)

  /** Makes a change at every byte, and lists where the right record was not named. */
  async function missed(change: (at: number) => Buffer | undefined, recordOf = recordAt): Promise<unknown[]> {
    const found: unknown[] = []
    for (let at = 0; at < bytes.length; at++) {
      const changed = change(at)
      if (changed === undefined) continue
      const { ok, fault } = await verify(changed, head)
      if (ok || !fault!.startsWith(`record ${recordOf(bytes, at)} (`)) found.push({ at, fault })
    }
    return found
  }

  test('nothing is found where nothing was changed', async () => {
    expect(await verify(bytes, head)).toEqual({ chain: 'c', ok: true, records: 3, beyondHead: 0 })
    expect(await missed(() => Buffer.from(bytes))).toHaveLength(bytes.length)
  })

  test('every byte replaced by every other byte is found in its record', async () => {
    for (let difference = 1; difference < 256; difference++) {
      const found = await missed((at) => {
        const changed = Buffer.from(bytes)
        changed[at] = bytes[at]! ^ difference
        return changed
      })
      expect(found).toEqual([])
    }
  })

  test('every byte removed is found in its record, the last newline included', async () => {
    expect(await missed((at) => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]))).toEqual([])
  })

  test.each([' ', '0', '"', '\\', '\r', '\0', '\ufeff', '\ud83e'])('%j put in before any byte is found in its record', async (text) => {
    expect(await missed((at) => Buffer.concat([bytes.subarray(0, at), Buffer.from(text), bytes.subarray(at)]))).toEqual([])
  })

  test('a newline put in before any byte is found in its record; right behind a record it is an empty one too many', async () => {
    const found = await missed(
      (at) => Buffer.concat([bytes.subarray(0, at), Buffer.from('\n'), bytes.subarray(at)]),
      (_, at) => recordAt(bytes, at) + (bytes[at] === NEWLINE ? 1 : 0),
    )
    expect(found).toEqual([])
  })

  test('every byte that changes places with the next one is found in the first of their records', async () => {
    expect(await missed((at) => swapped(bytes, at))).toEqual([])
  })

  test('cut at any byte, what is missing is found in the record that was cut', async () => {
    expect(await missed((at) => bytes.subarray(0, at))).toEqual([])
  })

  test('every byte changed in the file itself is found by verifyAudit, in its record', async () => {
    const directory = temporaryDirectory()
    writeChain(directory, 'c', lines)
    const store = await storeWithHeads({ c: head })
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: true }])
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes)
      changed[at] = bytes[at]! ^ (1 << (at % 8))
      writeFileSync(chainFile(directory, 'c'), changed)
      const [verdict] = await verifyAudit(directory, store)
      expect(verdict).toMatchObject({ ok: false, fault: expect.stringMatching(`^record ${recordAt(bytes, at)} `) })
    }
  })
})

// No backslash in keys: with one, V8 reads other keys than were written (nodejs/node#63785). Records have none.
const anyKey = fc.string({ unit: 'grapheme' }).filter((key) => !key.includes('\\') && !['h', 'store', ''].includes(key))
const anyFields = fc.dictionary(anyKey, fc.jsonValue({ maxDepth: 2 }).filter(hasPlainKeys) as fc.Arbitrary<Json>, { maxKeys: 4 })
const anyEntry = fc.tuple(fc.constantFrom<LogKind>('open', 'intent', 'outcome', 'refused', 'event', 'close'), anyFields)
const anyChain = fc.array(anyEntry, { minLength: 1, maxLength: 8 })

function hasPlainKeys(value: unknown): boolean {
  return !JSON.stringify(value).includes('\\')
}

/** One change of the bytes of a chain. */
type Mutation = (bytes: Buffer, lines: readonly string[]) => Buffer

const anyAt = fc.nat({ max: 1_000_000 })
const anyMutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(anyAt, fc.uint8Array({ maxLength: 4 }), fc.nat(4)).map(([at, put, removed]): Mutation => (bytes) => {
    const from = at % bytes.length
    return Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + removed)])
  }),
  anyAt.map(
    (at): Mutation =>
      (bytes) =>
        bytes.subarray(0, at % bytes.length),
  ),
  anyAt.map(
    (at): Mutation =>
      (_, lines) =>
        bytesOf(lines.toSpliced(at % lines.length, 1)),
  ),
  fc.tuple(anyAt, anyAt).map(([from, to]): Mutation => (_, lines) => {
    return bytesOf(lines.toSpliced(to % (lines.length + 1), 0, lines[from % lines.length]!))
  }),
  fc.tuple(anyAt, anyAt).map(([one, other]): Mutation => (_, lines) => {
    const [a, b] = [one % lines.length, other % lines.length]
    return bytesOf(lines.with(a, lines[b]!).with(b, lines[a]!))
  }),
  fc.tuple(anyAt, anyAt).map(([from, to]): Mutation => (bytes) => {
    const [a, b] = [from % bytes.length, to % bytes.length].sort((x, y) => x - y) as [number, number]
    return Buffer.concat([bytes.subarray(0, b), bytes.subarray(a)])
  }),
)

test('any chain with any change is whole exactly when its bytes, up to the last newline, are those that were written', async () => {
  let changes = 0
  await fc.assert(
    fc.asyncProperty(anyChain, anyMutation, async (entries, mutate) => {
      const lines = linesOf(entries)
      const bytes = bytesOf(lines)
      const changed = mutate(bytes, lines)
      const same = changed.subarray(0, changed.lastIndexOf(NEWLINE) + 1).equals(bytes)
      if (!same) changes += 1
      expect([(await verify(changed, headOf(lines))).ok, (await verify(bytes, headOf(lines))).ok]).toEqual([same, true])
    }),
    { numRuns: 4_000 },
  )
  expect(changes).toBeGreaterThan(3_000)
})
