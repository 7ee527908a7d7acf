// The attack table of the audit: what somebody may do to a chain file, and what `verify` says then. Every attack is
// made on the trail of a real kernel, with records of all kinds, and has its control: the same way of writing without
// the change verifies. Rows that are not detected are here too, and say so.

import { beforeAll, describe, expect, test } from 'vitest'
import { encodeRecord } from '../../src/audit/record.ts'
import { verifyChain, type ChainVerdict, type StoredHead } from '../../src/audit/verify.ts'
import { canonicalJson, type Json } from '../../src/lib/canonical-json.ts'
import { edited, forged, headOf, recordsOf, relinked, workedChain } from './chains.ts'

let chain: string
let lines: readonly string[]
let head: StoredHead

beforeAll(async () => {
  ;({ chain, lines, head } = await workedChain())
})

const NO_STORE = 'no store'

/** Verifies lines as they lie in a file, against the head of the store. */
function verify(changed: readonly string[], stored: StoredHead | typeof NO_STORE = head): Promise<ChainVerdict> {
  return verifyChain(
    chain,
    changed.map((line) => Buffer.from(line)),
    stored === NO_STORE ? undefined : stored,
  )
}

/** The record that is named as the first bad one; the chain is to be bad. */
async function firstBad(changed: readonly string[], stored: StoredHead | typeof NO_STORE = head): Promise<number> {
  const { ok, fault, records } = await verify(changed, stored)
  const [, record, line] = /^record (\d+) \(line (\d+)\): /.exec(fault ?? '') ?? []
  expect([ok, Number(line), records]).toEqual([false, Number(record) + 1, expect.any(Number)])
  return Number(record)
}

/** Makes each change, one at a time, and lists those after which another record was named than expected. */
async function missed(changes: readonly { readonly what: string; readonly changed: readonly string[]; readonly bad: number }[]) {
  const found = []
  for (const { what, changed, bad } of changes) {
    const named = await verify(changed).then(({ fault }) => /^record (\d+) /.exec(fault ?? '')?.[1])
    if (named !== String(bad)) found.push({ what, named, expected: bad })
  }
  return found
}

const replaced = (index: number, line: string): string[] => lines.with(index, line)

type Path = readonly (string | number)[]

/** Every place in a value, members and elements of members included. */
function placesIn(value: Json, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [path, ...Object.entries(value).flatMap(([key, member]) => placesIn(member, [...path, key]))]
}

function another(value: Json): Json {
  if (typeof value === 'number') return value + 1
  if (typeof value === 'string') return `${value}x`
  if (typeof value === 'boolean') return !value
  return value === null ? 0 : null
}

/** What may be done at one place of a record. */
const EDITS: Readonly<Record<string, (parent: Record<string, Json>, key: string) => void>> = {
  changed: (parent, key) => (parent[key] = another(parent[key]!)),
  emptied: (parent, key) => (parent[key] = ''),
  removed: (parent, key) => delete parent[key],
  renamed(parent, key) {
    parent[`${key}2`] = parent[key]!
    delete parent[key]
  },
}

function changesOf(line: string): { what: string; line: string }[] {
  const [record] = recordsOf([line])
  return placesIn(record!)
    .slice(1)
    .flatMap((path) =>
      Object.entries(EDITS).map(([name, edit]) => ({
        what: `${record!.kind}.${path.join('.')} ${name}`,
        line: edited(line, (copy) =>
          edit(path.slice(0, -1).reduce<Json>((at, key) => at![key as never], copy) as never, String(path.at(-1))),
        ),
      })),
    )
}

describe('the trail that is attacked', () => {
  test('has records of every kind, and verifies', async () => {
    expect(new Set(recordsOf(lines).map(({ kind }) => kind))).toEqual(
      new Set(['open', 'intent', 'outcome', 'refused', 'approve', 'event', 'close']),
    )
    expect(await verify(lines)).toEqual({ chain, ok: true, records: lines.length, beyondHead: 0 })
    expect(await verify(lines, NO_STORE)).toEqual({ chain, ok: true, records: lines.length, beyondHead: lines.length })
  })

  test('verifies also when each line was taken apart and written again: the tools of the attacker add nothing', async () => {
    expect(lines.map((line) => edited(line, () => {}))).toEqual(lines)
    expect(lines.map((line) => forged(line, () => {}))).toEqual(lines)
    expect(relinked(chain, lines)).toEqual(lines)
  })
})

describe('an edit that keeps the hash', () => {
  test('of any field of any record, nested ones included, is found in that record', async () => {
    const changes = lines.flatMap((line, bad) =>
      changesOf(line).map(({ what, line: changed }) => ({ what, changed: replaced(bad, changed), bad })),
    )
    expect(changes.length).toBeGreaterThan(400)
    const touched = changes.map(({ what }) => what)
    for (const place of [
      'intent.amounts.usd changed',
      'outcome.used.calls removed',
      'open.seq changed',
      'close.prev emptied',
      'event.t renamed',
    ])
      expect(touched).toContain(place)
    expect(await missed(changes)).toEqual([])
  })

  test('that adds a field is found in that record, also one called __proto__', async () => {
    const changes = lines.flatMap((line, bad) =>
      ['extra', '__proto__', 'hh', ''].map((name) => {
        const changed = edited(line, (record) => Object.defineProperty(record, name, { value: 1, enumerable: true }))
        return { what: `${bad} ${name}`, changed: replaced(bad, changed), bad }
      }),
    )
    expect(await missed(changes)).toEqual([])
  })

  test.each([
    ['changed', (h: string) => `${h.slice(0, -1)}${h.endsWith('A') ? 'B' : 'A'}`],
    ['emptied', () => ''],
    ['taken from the record before', (_: string, before: string) => before],
    ['padded as base64', (h: string) => `${h}=`],
    ['written as hex', (h: string) => Buffer.from(h, 'base64url').toString('hex')],
  ])('of the hash itself (%s) is found in that record', async (_, change) => {
    const changes = lines.map((line, bad) => {
      const { h } = JSON.parse(line) as { h: string }
      const before = bad === 0 ? chain : headOf(lines.slice(0, bad)).hash
      return { what: String(bad), changed: replaced(bad, line.replace(`"h":"${h}"`, `"h":"${change(h, before)}"`)), bad }
    })
    expect(await missed(changes)).toEqual([])
  })

  test('that removes the hash, or makes it something else than a string, is found', async () => {
    const changes = lines.flatMap((line, bad) =>
      ['', ',"h":null', ',"h":[]', ',"h":{}', ',"h":1'].map((hash) => {
        return { what: `${bad}${hash}`, changed: replaced(bad, line.replace(/,"h":"[^"]*"\}$/, `${hash}}`)), bad }
      }),
    )
    expect(await missed(changes)).toEqual([])
  })
})

describe('an edit whose hash was made to fit', () => {
  test('is found in the next record, which follows another one; in the last record by the head of the store', async () => {
    const changes = lines.map((line, index) => {
      const changed = replaced(
        index,
        forged(line, (record) => (record['t'] = Number(record['t']) + 1)),
      )
      return { what: String(index), changed, bad: index + 1 < lines.length ? index + 1 : index }
    })
    expect(await missed(changes)).toEqual([])
    const last = changes.at(-1)!.changed
    expect(await verify(last)).toMatchObject({ ok: false, fault: expect.stringContaining('the store knows another record here') })
    // Not detected: without the store nothing vouches for the last record.
    expect(await verify(last, NO_STORE)).toMatchObject({ ok: true })
  })

  test.each<[string, (record: Record<string, Json>) => void, RegExp]>([
    ['seq', (record) => (record['seq'] = 99), /it says that it is record 99/],
    ['prev', (record) => (record['prev'] = 'x'), /it does not follow the record before it/],
    ['chain', (record) => (record['chain'] = 'other'), /it belongs to the chain other/],
    ['v, to a newer one', (record) => (record['v'] = 2), /it has version 2; this version of holdfast reads 1/],
    ['v, to an older one', (record) => (record['v'] = 0), /it has version 0/],
    ['v, to none', (record) => delete record['v'], /it has version undefined/],
    ['v, to a string', (record) => (record['v'] = '1'), /it has version "1"/],
  ])('of %s is found in that record itself', async (_, change, fault) => {
    for (let index = 0; index < lines.length; index++) {
      const changed = replaced(index, forged(lines[index]!, change))
      expect(await firstBad(changed)).toBe(index)
      expect((await verify(changed)).fault).toMatch(fault)
    }
  })

  test('and everything after it too is found by the head of the store, at the last record that the store knows', async () => {
    for (let from = 0; from < lines.length; from++) {
      const edit = forged(lines[from]!, (record) => (record['t'] = 1))
      const rewritten = relinked(chain, replaced(from, edit), from)
      expect(await firstBad(rewritten)).toBe(head.count - 1)
      expect((await verify(rewritten)).fault).toContain('the store knows another record here')
      // Not detected: who rewrites the whole rest is only found out by somebody who remembers a head.
      expect(await verify(rewritten, NO_STORE)).toMatchObject({ ok: true, beyondHead: lines.length })
    }
  })
})

describe('a record that is removed', () => {
  test('is found at its place, each of them, with a store and without', async () => {
    for (let index = 0; index < lines.length - 1; index++) {
      expect(await firstBad(lines.toSpliced(index, 1))).toBe(index)
      expect(await firstBad(lines.toSpliced(index, 1), NO_STORE)).toBe(index)
    }
  })

  test('and hidden by linking the rest again is found by the store', async () => {
    for (let index = 0; index < lines.length; index++) {
      const hidden = relinked(chain, lines.toSpliced(index, 1), index)
      expect(await firstBad(hidden)).toBe(lines.length - 1)
      expect((await verify(hidden)).fault).toMatch(/missing; the store knows of \d+$/)
      expect(await verify(hidden, NO_STORE)).toMatchObject({ ok: true })
    }
  })
})

describe('a record that is put in', () => {
  test('as a copy of any other one is found at its place', async () => {
    const changes = lines.flatMap((copy, from) =>
      Array.from({ length: lines.length + 1 }, (_, to) => ({
        what: `${from} at ${to}`,
        changed: lines.toSpliced(to, 0, copy),
        // The copy right before its original is the original for all that can be seen; the second one is too many.
        bad: to === from ? to + 1 : to,
      })),
    )
    expect(await missed(changes)).toEqual([])
  })

  test('forged to fit the one before it is found at the next one; at the end it is counted as beyond the head', async () => {
    for (let to = 0; to <= lines.length; to++) {
      const prev = to === 0 ? chain : headOf(lines.slice(0, to)).hash
      const { line } = encodeRecord({ v: 1, chain, seq: to, prev, t: 1, kind: 'event', message: 'forged' })
      const changed = lines.toSpliced(to, 0, line)
      const bad = { ok: false, fault: expect.stringMatching(`^record ${to + 1} `) }
      expect(await verify(changed, NO_STORE)).toMatchObject(to < lines.length ? bad : { ok: true })
      expect(await verify(changed)).toMatchObject(to < lines.length ? { ok: false } : { ok: true, beyondHead: 1 })
    }
  })

  test.each(['', ' ', '{}', '[]', 'null', '1', '"text"', 'hello', '{"h":"x"}', '{"h":"x","v":1}', '\0', '\ufeff'])(
    'as the line %j is found at its place',
    async (line) => {
      for (const to of [0, 3, lines.length]) expect(await firstBad(lines.toSpliced(to, 0, line))).toBe(to)
    },
  )

  test.each([
    ['half of a surrogate pair', '{"h":"x","v":1,"a":"\\ud800"}'],
    ['half of a surrogate pair in a key', '{"h":"x","v":1,"\\udc00":1}'],
    ['a number without end', '{"h":"x","v":1,"a":1e999}'],
    ['a thousand levels', `{"h":"x","v":1,"a":${'['.repeat(1_000)}${']'.repeat(1_000)}}`],
    ['a million levels', `${'[['.repeat(500_000)}${']]'.repeat(500_000)}`],
    ['a million members', `{${Array.from({ length: 1_000_000 }, (_, index) => `"${index}":0`).join()},"h":"x"}`],
  ])('with %s, for which there is no canonical JSON, is found and does not stop the audit', async (_, line) => {
    expect(await firstBad(lines.toSpliced(2, 0, line))).toBe(2)
  })
})

test('two records that change places are found at the first of the two, each pair of neighbours and any two', async () => {
  const changes = lines.flatMap((one, from) =>
    lines.slice(from + 1).map((other, distance) => {
      const to = from + 1 + distance
      return { what: `${from} and ${to}`, changed: lines.with(from, other).with(to, one), bad: from }
    }),
  )
  expect(changes.length).toBe((lines.length * (lines.length - 1)) / 2)
  expect(await missed(changes)).toEqual([])
})

describe('a tail that is cut off', () => {
  test('is found for every record up to the head of the store, by the number of records that it knows', async () => {
    for (let kept = 0; kept < lines.length; kept++) {
      const { ok, records, beyondHead, fault } = await verify(lines.slice(0, kept))
      expect({ ok, records, beyondHead }).toEqual({ ok: false, records: kept, beyondHead: 0 })
      expect(fault).toBe(`record ${kept} (line ${kept + 1}): it and all later ones are missing; the store knows of ${lines.length}`)
    }
  })

  test('beyond the last head that a batch carried is not found: the count says how many records nothing vouches for', async () => {
    for (let known = 1; known <= lines.length; known++) {
      const older = headOf(lines.slice(0, known))
      for (let kept = 0; kept <= lines.length; kept++) {
        const verdict = await verify(lines.slice(0, kept), older)
        expect([verdict.ok, verdict.beyondHead]).toEqual([kept >= known, Math.max(0, kept - known)])
      }
    }
  })

  test('without a store is never found', async () => {
    for (let kept = 0; kept <= lines.length; kept++)
      expect(await verify(lines.slice(0, kept), NO_STORE)).toEqual({ chain, ok: true, records: kept, beyondHead: kept })
  })
})

/** Other texts of the same JSON value. */
const REWRITES: Readonly<Record<string, (line: string) => string>> = {
  'a space in front': (line) => ` ${line}`,
  'a space behind': (line) => `${line} `,
  'a carriage return behind': (line) => `${line}\r`,
  'a tab in front': (line) => `\t${line}`,
  'a space behind a colon': (line) => line.replace('":', '": '),
  'a space behind a comma': (line) => line.replace(',"', ', "'),
  'its keys in another order': (line) =>
    `{${Object.entries(JSON.parse(line) as object)
      .toReversed()
      .map(memberText)
      .join()}}`,
  'its hash in order with the other keys': (line) => canonicalJson(JSON.parse(line)),
  'an escape for a plain character': (line) => line.replace('"kind"', '"\\u006bind"'),
  'a member twice': (line) => line.replace('{', '{"v":1,'),
  'a hash twice': (line) => line.replace('{', '{"h":"x",'),
  'a number with an exponent': (line) => line.replace('"v":1', '"v":1e0'),
  'a number with a point': (line) => line.replace('"v":1', '"v":1.0'),
}

function memberText([key, value]: readonly [string, unknown]): string {
  return `${JSON.stringify(key)}:${JSON.stringify(value)}`
}

describe('a record that is written otherwise with the same meaning', () => {
  test.each(Object.entries(REWRITES))('(%s) is found in that record', async (_, rewrite) => {
    const changes = lines
      .map((line, bad) => ({ what: String(bad), line: rewrite(line), changed: replaced(bad, rewrite(line)), bad }))
      .filter(({ line, bad }) => line !== lines[bad])
    expect(changes.length).toBeGreaterThan(0)
    expect(changes.every(({ line, bad }) => JSON.stringify(sorted(line)) === JSON.stringify(sorted(lines[bad]!)))).toBe(true)
    expect(await missed(changes)).toEqual([])
  })
})

function sorted(line: string): unknown {
  return JSON.parse(canonicalJson(JSON.parse(line)))
}

describe('bytes that are no UTF-8', () => {
  // Decoded, each of these is U+FFFD, which is what the record has: a decoder would hide the change.
  test.each(['ff', '80', 'c0', 'ed', 'f8', 'efbf'])('in the place of a U+FFFD (%s) are found in that record', async (hex) => {
    const bad = lines.findIndex((line) => line.includes('\ufffd'))
    const changed = Buffer.from(Buffer.from(lines[bad]!).toString('hex').replace('efbfbd', hex), 'hex')
    expect(changed.toString()).toBe(lines[bad])
    const verdict = await verifyChain(
      chain,
      lines.map((line, index) => (index === bad ? changed : Buffer.from(line))),
      head,
    )
    expect(verdict).toMatchObject({ ok: false, records: bad, fault: `record ${bad} (line ${bad + 1}): it is not UTF-8` })
  })
})
