// What a file store does when its journal is not what the stores wrote: every line of a long journal is
// changed, removed and swapped, the end is cut at every byte, and foreign lines are put in. Damage freezes the
// store and names file and line; a cut end is healed; what one store cannot see alone, `holds` finds.

import { appendFileSync, closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import type { Batch, Store, StoreHead } from '../../src/stores/store.ts'
import { times } from '../../src/testing/store-bench.ts'
import { buildJournal, contentOf, countingBatch, countOf, holds, openStore, textOf, type Journal } from './journal.ts'

const LINES = 1_000

/** The shortest batch there is, since these journals are opened thousands of times. */
const adding = (): Batch => ({ add: [{ key: 'k/n', by: 1, min: 0 }] })
const TAIL_BYTES = ',"h":""}'.length + 43

/** The line that is named as damaged when the store is opened, or what happens instead. */
async function damagedLine({ directory, file }: Journal): Promise<number | string> {
  try {
    await fileStore(directory, { durability: 'os' }).close()
  } catch (error) {
    if (!HoldfastError.isInstance(error) || error.code !== 'ERR_DAMAGE') throw error
    const [, line] = /^ line (\d+) is damaged: /.exec(error.message.replace(file, '')) ?? []
    return line === undefined ? error.message : Number(line)
  }
  return 'opened'
}

interface Change {
  readonly at: number
  readonly bytes: string
  /** The line that is to be named, from 1. */
  readonly line: number
}

/** Makes each change in the file, one at a time, and says where damage was not found, or was found elsewhere. */
async function missedOf(journal: Journal, changes: readonly Change[]): Promise<unknown[]> {
  const original = contentOf(journal)
  const descriptor = openSync(journal.file, 'r+')
  const missed: unknown[] = []
  try {
    for (const change of changes) {
      const { at, bytes, line } = change
      if (original.toString('latin1', at, at + bytes.length) === bytes) missed.push({ change, found: 'no change' })
      writeSync(descriptor, bytes, at, 'latin1')
      const found = await damagedLine(journal)
      if (found !== line) missed.push({ change, found })
      writeSync(descriptor, original, at, bytes.length, at)
    }
  } finally {
    closeSync(descriptor)
  }
  return missed
}

function startOf({ lines }: Journal, index: number): number {
  return lines[index]!.head.bytes - Buffer.byteLength(lines[index]!.text) - 1
}

type ByteChange = readonly [what: string, offset: (text: string) => number, to: string]

const EVERYWHERE: readonly ByteChange[] = [
  ['its length, to a larger one', () => '{"n":'.length, '9'],
  ['the hash of the line before', () => '{"n":171,"p":"'.length + 20, '-'],
  ['an amount', (text) => text.indexOf(',1,null,0') + 1, '7'],
  ['the mark of its hash', (text) => text.length - TAIL_BYTES + 2, 'x'],
  ['its own hash', (text) => text.length - 20, '-'],
  ['its closing brace', (text) => text.length - 1, ']'],
  ['its newline', (text) => text.length, ' '],
]
const BESIDES: readonly ByteChange[] = [
  ['the first byte', () => 0, ' '],
  ['its length, to a smaller one', () => '{"n":1'.length, '0'],
  ['the end of its batches', (text) => text.length - TAIL_BYTES - 1, '}'],
  ['its closing brace, to the beginning of a line', (text) => text.length - 1, '{'],
  ['its newline, to the beginning of a line', (text) => text.length, '{'],
]

function byteChanges(journal: Journal, offset: (text: string) => number, to: string): Change[] {
  return journal.lines.map(({ text }, index) => {
    const at = offset(text)
    return { at: startOf(journal, index) + at, bytes: text[at] === to ? '8' : to, line: index + 1 }
  })
}

describe(`in a journal of ${LINES} lines, the last one included`, () => {
  test.each(EVERYWHERE)('a change of %s is damage of that line, in every line', async (_, offset, to) => {
    const journal = await buildJournal(LINES, adding)
    expect(await missedOf(journal, byteChanges(journal, offset, to))).toEqual([])
    expect(await countOf(openStore(journal.directory))).toBe(LINES)
  })

  test.each(BESIDES)('a change of %s is damage of that line, in every line of a shorter one', async (_, offset, to) => {
    const journal = await buildJournal(100)
    expect(await missedOf(journal, byteChanges(journal, offset, to))).toEqual([])
    expect(await countOf(openStore(journal.directory))).toBe(100)
  })

  test('swapping any line with its neighbour is damage of the first of the two', async () => {
    const journal = await buildJournal(LINES, adding)
    const swaps = journal.lines.slice(1).map((other, index) => {
      return { at: startOf(journal, index), bytes: textOf([other, journal.lines[index]!]), line: index + 1 }
    })
    expect(await missedOf(journal, swaps)).toEqual([])
    expect(await countOf(openStore(journal.directory))).toBe(LINES)
  })

  test('removing any line but the last is damage at its place', async () => {
    const journal = await buildJournal(LINES, adding)
    const found: (number | string)[] = []
    for (let index = 0; index < LINES - 1; index++) {
      writeFileSync(journal.file, textOf(journal.lines.toSpliced(index, 1)))
      found.push(await damagedLine(journal))
    }
    expect(found).toEqual(times(LINES - 1, (index) => index + 1))
  })

  test('removing the newline of any line but the last is damage at its place', async () => {
    const journal = await buildJournal(LINES, adding)
    const found: (number | string)[] = []
    for (let index = 0; index < LINES - 1; index++) {
      const end = journal.lines[index]!.head.bytes
      const content = textOf(journal.lines)
      writeFileSync(journal.file, content.slice(0, end - 1) + content.slice(end))
      found.push(await damagedLine(journal))
    }
    expect(found).toEqual(times(LINES - 1, (index) => index + 1))
  })

  test('removing the last lines is not seen by the store alone, and `holds` says no', async () => {
    const journal = await buildJournal(LINES, adding)
    const last = journal.lines.at(-1)!.head
    const whole = openStore(journal.directory)
    expect(await holds(whole, last)).toBe('yes')
    for (const removed of [1, 2, 3, 500, LINES]) {
      const kept = journal.lines.slice(0, LINES - removed)
      writeFileSync(journal.file, textOf(kept))
      const store = openStore(journal.directory)
      expect(await countOf(store)).toBe(kept.length)
      expect(await holds(store, last)).toBe('no')
      for (const { head } of kept.slice(-3)) expect(await holds(store, head)).toBe('yes')
    }
  })
})

/** A line in the place of another, with another amount and a hash that fits. */
function forge({ lines, storeId }: Journal, index: number) {
  const previous = lines[index - 1]?.head.hash ?? storeId
  const batches = [{ ...countingBatch(index), add: [{ key: 'k/n', by: 2, min: 0 }] }]
  return { previous, forged: encodeLine({ previous, writer: `builder:${index}`, timeMs: 1_700_000_000_000 + index, batches }) }
}

describe('damage that needs more than one byte', () => {
  test('a line whose amount was changed and whose hash was made to fit is damage of the next line', async () => {
    const journal = await buildJournal(50)
    const { previous, forged } = forge(journal, 20)
    expect(previous).not.toBe(forged.hash)
    writeFileSync(journal.file, textOf(journal.lines).replace(journal.lines[20]!.text, forged.text))
    expect(await damagedLine(journal)).toBe(22)
  })

  test('the last line changed so is not seen by the store alone, and `holds` says no', async () => {
    const journal = await buildJournal(50)
    const { forged } = forge(journal, 49)
    writeFileSync(journal.file, textOf(journal.lines).replace(journal.lines[49]!.text, forged.text))
    const store = openStore(journal.directory)
    expect(await countOf(store)).toBe(49 + 2)
    expect(await holds(store, journal.lines[49]!.head)).toBe('no')
    expect(await holds(store, journal.lines[48]!.head)).toBe('yes')
  })

  test('a last line that was made to look like a torn one, its end untouched, is not in the store for `holds` either', async () => {
    const journal = await buildJournal(50)
    const { text, head } = journal.lines[49]!
    const longer = text.replace(/^\{"n":\d/, '{"n":9').replace(',1,null,0', ',7,null,0')
    writeFileSync(journal.file, textOf(journal.lines).replace(text, longer))
    const store = openStore(journal.directory)
    expect([await countOf(store), await holds(store, head)]).toEqual([49, 'no'])
  })
})

describe('foreign lines', () => {
  const LATE = { writer: 'late:1', timeMs: 1, batches: [countingBatch(0)] }

  test.each([0, 1, 25, 49])('line %i written again at the end is stale, and harms nothing', async (index) => {
    const journal = await buildJournal(50)
    appendFileSync(journal.file, `${journal.lines[index]!.text}\n`)
    const store = openStore(journal.directory)
    expect(await countOf(store)).toBe(50)
    expect(await groupCommits(store).commit(countingBatch(50))).toMatchObject({ outcome: 'ok', values: [51] })
    expect(await holds(store, journal.lines[49]!.head)).toBe('yes')
  })

  test('a line that was decided on an old head is stale, also where that head is thousands of lines back', async () => {
    const journal = await buildJournal(5_000)
    for (const previous of [journal.storeId, journal.lines[0]!.head.hash, journal.lines[700]!.head.hash]) {
      appendFileSync(journal.file, `${encodeLine({ ...LATE, previous }).text}\n`)
    }
    const store = openStore(journal.directory)
    expect(await countOf(store)).toBe(5_000)
  })

  test.each([
    ['nobody', (): string => 'A'.repeat(43)],
    ['a stale line', (stale: string): string => stale],
  ])('a line that was decided on the head of %s is damage', async (_, previousOf) => {
    const journal = await buildJournal(50)
    const stale = encodeLine({ ...LATE, previous: journal.lines[3]!.head.hash })
    const next = encodeLine({ ...LATE, previous: previousOf(stale.hash) })
    appendFileSync(journal.file, `${stale.text}\n${next.text}\n`)
    expect(await damagedLine(journal)).toBe(52)
  })

  test('a line of another store is damage', async () => {
    const [journal, other] = [await buildJournal(5), await buildJournal(5)]
    appendFileSync(journal.file, `${other.lines[0]!.text}\n`)
    expect(await damagedLine(journal)).toBe(6)
  })

  test.each(['hello', '{}', '{"n":5}', '[1,2]', '\0', 'x'.repeat(300)])(
    '%j is damage, with a newline behind it and without',
    async (text) => {
      const journal = await buildJournal(5)
      for (const ending of ['\n', '']) {
        writeFileSync(journal.file, `${textOf(journal.lines)}${text}${ending}`)
        expect(await damagedLine(journal)).toBe(6)
      }
    },
  )

  test('empty lines mean nothing', async () => {
    const journal = await buildJournal(5)
    writeFileSync(journal.file, `\n\n${journal.lines.map(({ text }) => `${text}\n\n\n`).join('')}`)
    expect(await countOf(openStore(journal.directory))).toBe(5)
  })
})

describe('the head that a group names', () => {
  test('is held with stale and torn lines behind it, and when the group wrote nothing', async () => {
    const journal = await buildJournal(50)
    const torn = journal.lines[7]!.text.slice(0, 80)
    appendFileSync(journal.file, `${journal.lines[7]!.text}\n${torn}\n${torn}`)
    const store = openStore(journal.directory)
    const refused = await store.apply([{ check: [{ key: 'k/n', version: 1 }] }])
    expect(refused).toMatchObject({ outcome: 'applied', head: journal.lines[49]!.head })
    expect(await holds(store, journal.lines[49]!.head)).toBe('yes')
    const written = await store.apply([countingBatch(50)])
    const { head } = written as { readonly head: StoreHead }
    appendFileSync(journal.file, `${journal.lines[7]!.text}\n`)
    expect(await holds(openStore(journal.directory), head)).toBe('yes')
  })

  test('of an empty store is held, also when lines have come', async () => {
    const { directory, storeId } = await buildJournal(0)
    const store = openStore(directory)
    const head = { segment: 1, bytes: 0, hash: storeId }
    expect(await store.apply([{ check: [{ key: 'k/n', version: 1 }] }])).toMatchObject({ outcome: 'applied', head })
    expect(await holds(store, head)).toBe('yes')
    await store.apply([countingBatch(0)])
    expect(await holds(store, head)).toBe('yes')
  })

  test('is not held at another place, with another hash, of another store, or in a segment that is not there yet', async () => {
    const { directory, lines } = await buildJournal(50)
    const store = openStore(directory)
    const { head } = lines[20]!
    expect(await holds(store, head)).toBe('yes')
    for (const bytes of [0, 1, head.bytes - 1, head.bytes + 1, lines[21]!.head.bytes, 10_000_000]) {
      expect(await holds(store, { ...head, bytes })).toBe('no')
    }
    for (const hash of [lines[21]!.head.hash, 'A'.repeat(43), '']) expect(await holds(store, { ...head, hash })).toBe('no')
    expect(await holds(store, (await buildJournal(50)).lines[20]!.head)).toBe('no')
    expect(await holds(store, { ...head, segment: 2 })).toBe('no')
  })
})

/** A store in whose first commit something happens between its look at the file and its write. */
function interrupted(directory: string, happen: () => void): Store {
  let done = false
  // The clock is what a commit asks just then.
  const now = (): number => {
    if (!done) happen()
    done = true
    return 1_800_000_000_000
  }
  return openStore(directory, { clock: { now } })
}

describe('a journal that was cut', () => {
  const KEPT = 30

  test('at every byte of its last three lines opens, with whole lines only, and the next commit heals it', async () => {
    const journal = await buildJournal(KEPT)
    const original = contentOf(journal)
    for (let size = startOf(journal, KEPT - 3); size < original.length; size++) {
      writeFileSync(journal.file, original.subarray(0, size))
      const whole = journal.lines.filter(({ head }) => head.bytes <= size).length
      // A line that lacks nothing but its newline: the next writer puts that there, and then it counts.
      const completed = original[size] === 10 ? 1 : 0
      const store = fileStore(journal.directory, { durability: 'os' })
      expect(await countOf(store)).toBe(whole)
      expect((await store.list('k/', { limit: KEPT + 1 })).length).toBe(whole + 1)
      for (const [index, { head }] of [...journal.lines.entries()].slice(-4))
        expect(await holds(store, head)).toBe(index < whole ? 'yes' : 'no')
      let committed: StoreHead | undefined
      const committer = groupCommits(store, { onStoreHead: (head) => (committed = head) })
      expect(await committer.commit({ add: [{ key: 'k/n', by: 1 }] })).toMatchObject({ outcome: 'ok', values: [whole + completed + 1] })
      await store.close()
      const again = fileStore(journal.directory, { durability: 'os' })
      expect(await countOf(again)).toBe(whole + completed + 1)
      expect(await holds(again, committed!)).toBe('yes')
      expect(await holds(again, journal.lines.at(-1)!.head)).toBe(whole + completed === KEPT ? 'yes' : 'no')
      await again.close()
    }
  })

  test('is healed once by two writers that see the torn end at once', async () => {
    const journal = await buildJournal(KEPT)
    truncateSync(journal.file, contentOf(journal).length - 40)
    const stores = times(2, () => openStore(journal.directory))
    const commits = stores.map((store) => groupCommits(store).commit({ add: [{ key: 'k/n', by: 1 }] }))
    for (const result of await Promise.all(commits)) expect(result.outcome).toBe('ok')
    expect(await Promise.all(stores.map(countOf))).toEqual([KEPT + 1, KEPT + 1])
  })

  test('behind the back of a writer, between its look and its write, costs that writer a second try', async () => {
    const { directory, file, lines } = await buildJournal(KEPT)
    const foreign = { previous: lines.at(-1)!.head.hash, writer: 'torn:1', timeMs: 1, batches: [countingBatch(99)] }
    const { text } = encodeLine(foreign)
    for (const [round, cut] of [1, 8, 60, text.length - 1, text.length].entries()) {
      const store = interrupted(directory, () => appendFileSync(file, text.slice(0, cut)))
      expect(await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])).toEqual({ outcome: 'contended' })
      expect(await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])).toMatchObject({ results: [{ values: [KEPT + round + 1] }] })
      expect(await countOf(openStore(directory))).toBe(KEPT + round + 1)
    }
  })

  test('behind the backs of many, one after the other without a newline in between, freezes nobody and loses nothing', async () => {
    const { directory, file, lines } = await buildJournal(KEPT)
    const { text } = encodeLine({ previous: lines.at(-1)!.head.hash, writer: 'torn:1', timeMs: 1, batches: [countingBatch(99)] })
    const cuts = [text.length, 2, text.length, 90, text.length - 1, 9]
    const runs = [...cuts.map((cut) => [cut]), ...cuts.flatMap((one) => cuts.map((other) => [one, other])), cuts]
    const auditor = openStore(directory)
    for (const [round, run] of runs.entries()) {
      const store = interrupted(directory, () => {
        for (const cut of run) {
          appendFileSync(file, text.slice(0, cut))
          // What is torn now can be seen by whoever looks just then.
          if (cut > 4) void auditor.now()
        }
      })
      expect(await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])).toEqual({ outcome: 'contended' })
      expect(await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])).toMatchObject({ results: [{ values: [KEPT + round + 1] }] })
      expect(await countOf(auditor)).toBe(KEPT + round + 1)
      expect(await countOf(openStore(directory))).toBe(KEPT + round + 1)
    }
  })
})

describe('damage that appears while the store is open', () => {
  const USES = ['apply', 'read', 'list', 'now', 'holds', 'watch'] as const

  /** Opens a journal, damages it, and gives the message with which every use fails from then on. */
  async function frozen(damage: (journal: Journal) => void): Promise<Record<string, string>> {
    const journal = await buildJournal(20)
    const store = openStore(journal.directory)
    expect(await countOf(store)).toBe(20)
    damage(journal)
    await expect(store.read(['k/n'])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    // Putting the file right again does not thaw it: what this process has in memory cannot be trusted.
    writeFileSync(journal.file, textOf(journal.lines))
    const failures: Record<string, string> = {}
    const uses: Record<(typeof USES)[number], () => unknown> = {
      apply: () => store.apply([{}]),
      read: () => store.read([]),
      list: () => store.list('', { limit: 1 }),
      now: () => store.now(),
      holds: () => holds(store, journal.lines[0]!.head),
      watch: () => store.watch('', () => {}),
    }
    for (const use of USES) {
      await expect((async () => uses[use]())()).rejects.toSatisfy((error: HoldfastError) => {
        failures[use] = error.message.replaceAll(journal.file, 'FILE')
        return error.code === 'ERR_DAMAGE'
      })
    }
    return failures
  }

  test('a damaged line freezes the store for every use, and names the line', async () => {
    const failures = await frozen(({ file, lines }) => appendFileSync(file, `${lines[3]!.text.replace(',1,null', ',2,null')}\n`))
    for (const use of USES)
      expect(failures[use]).toMatch(/^FILE line 21 is damaged: its hash does not match its content\. The store is frozen/)
  })

  test('a file that was cut below what was read freezes the store', async () => {
    const failures = await frozen(({ file }) => truncateSync(file, 1_000))
    for (const use of USES) expect(failures[use]).toMatch(/^FILE was cut from \d+ to 1000 bytes\. The store is frozen/)
  })

  test('a line that follows one which is not in the file freezes the store', async () => {
    const failures = await frozen(({ file }) => {
      appendFileSync(file, `${encodeLine({ previous: 'B'.repeat(43), writer: 'x:1', timeMs: 1, batches: [{}] }).text}\n`)
    })
    for (const use of USES) expect(failures[use]).toMatch(/^FILE line 21 is damaged: it follows a line that is not in the file/)
  })

  test('and that is found right after a write leaves that write unknown, since others may have accepted it', async () => {
    const { directory, file } = await buildJournal(20)
    const store = interrupted(directory, () => appendFileSync(file, 'noise\n'))
    expect(await store.apply([countingBatch(20)])).toMatchObject({ outcome: 'unknown' })
    await expect(store.apply([countingBatch(20)])).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })

  test('watchers wake, so that they find out', async () => {
    const journal = await buildJournal(20)
    const store = openStore(journal.directory)
    const woken = new Promise<void>((resolve) => store.watch('k/', resolve))
    appendFileSync(journal.file, 'noise\n')
    await woken
    await expect(store.now()).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })
})
