// The clocks that a successor compares before it believes a chain: the one of the file's last change, and the one that
// the record before it was written by. A user's own clock, and a clock that is set, must neither hide that a chain was
// changed nor keep one that was not from being believed.

import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openChain, type Chain } from '../../src/audit/chain.ts'
import { lockFile, takeLock } from '../../src/audit/chain-lock.ts'
import { lastWords, osBoot } from '../../src/audit/last-words.ts'
import { encodeRecord } from '../../src/audit/record.ts'
import { sleep, systemClock, type Clock } from '../../src/lib/clock.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { open, take } from '../budget/bench.ts'
import { chainFile, linesOf, recordsOf, temporaryDirectory } from './chains.ts'

const HOUR_MS = 3_600_000
const OPENED = { locked: true, durable: false, osBoot: osBoot()!, host: hostname(), storeId: 'store' }
const CHANGED = { doubt: expect.stringContaining('was changed after its last record was written') }

/** The chain of a process that died with one hold, and one that it had given back, on these clocks. */
function died(directory: string, clock: Clock, wall?: Clock): Chain {
  const chain = openChain({ boot: 'dead', clock, ...(wall === undefined ? {} : { wall }), durable: false, directory })
  onTestFinished(() => chain.close(true))
  chain.append('open', OPENED)
  for (const hold of ['one', 'other']) chain.append('intent', { hold, budget: 'acme', amounts: { tokens: 1 } })
  chain.close(false)
  return chain
}

/** Cuts the last record off, some time after it was written. */
async function cut(directory: string): Promise<void> {
  await sleep(1_100)
  const file = chainFile(directory, 'dead')
  truncateSync(file, readFileSync(file, 'utf8').trimEnd().lastIndexOf('\n') + 1)
}

const wordsOf = (directory: string) => lastWords(directory, 'dead', 'store', undefined)
const off = (ms: number): Clock => ({ now: () => Date.now() + ms })

describe('the chain of a process with a clock of its own', () => {
  test.each([-HOUR_MS, -2_000, 2_000, HOUR_MS])('that was off by %i ms is believed as it was left', async (ms) => {
    const directory = temporaryDirectory()
    died(directory, off(ms), systemClock)
    expect(await wordsOf(directory)).toMatchObject({ holds: expect.any(Map) })
  })

  test.each([-HOUR_MS, -500, 500, HOUR_MS])('that was off by %i ms is not believed once a record was cut off', async (ms) => {
    const directory = temporaryDirectory()
    died(directory, off(ms), systemClock)
    await cut(directory)
    expect(await wordsOf(directory)).toEqual(CHANGED)
  })

  test('says in each record what the clock of the system said; on that clock itself nothing is said twice', async () => {
    const [data, plain] = [temporaryDirectory(), temporaryDirectory()]
    const clock = settableClock()
    const { kernel } = await open({ budgets: { acme: { tokens: 10 } }, data, clock })
    await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
    for (const { t, wall } of recordsOf(linesOf(data, kernel.boot))) {
      expect(t).toBe(clock.now())
      expect(Math.abs(Number(wall) - Date.now())).toBeLessThan(HOUR_MS)
    }
    const { kernel: other } = await open({ budgets: { acme: { tokens: 10 } }, data: plain })
    expect(recordsOf(linesOf(plain, other.boot)).filter((record) => 'wall' in record)).toEqual([])
  })

  test('lets no caller say it', () => {
    const chain = openChain({ boot: 'b', clock: systemClock, durable: false })
    expect(() => chain.append('event', { wall: 1 })).toThrow('`wall` is not a field of a caller')
  })
})

describe('the clock of the system', () => {
  // The file is changed now; that the clock was set since shows as a record from then.
  test.each([
    ['back', HOUR_MS],
    ['forward', -HOUR_MS],
  ])('that was set %s between the last record and the change of a chain does not hide that', async (_, ms) => {
    const directory = temporaryDirectory()
    died(directory, off(ms))
    await cut(directory)
    expect(await wordsOf(directory)).toEqual(CHANGED)
  })

  test('that was set after a chain was left alone changes nothing: its file keeps its time', async () => {
    const directory = temporaryDirectory()
    died(directory, systemClock)
    const { now } = Date
    onTestFinished(() => void (Date.now = now))
    for (const ms of [-HOUR_MS, HOUR_MS]) {
      Date.now = () => now() + ms
      expect(await wordsOf(directory)).toMatchObject({ holds: expect.any(Map) })
    }
  })

  test('and the one of the store, set forward by hours, let nobody end what a process holds that lives', async () => {
    const data = temporaryDirectory()
    const clock = settableClock(Date.now())
    const { kernel: living, store } = await open({ budgets: { acme: { tokens: 100 } }, data, clock })
    const held = await take(living, 'acme', { tokens: 10 })
    // In the eyes of the store it has been silent for long; its lock says that it lives.
    const ahead = { ...store, now: async () => (await store.now()) + HOUR_MS }
    const { kernel: other } = await open({ store: ahead, data, clock })
    await other.sweep()
    expect(takeLock(lockFile(data, living.boot))).toBeUndefined()
    expect(await other.budgets()).toMatchObject([{ spent: 0, suspense: 10, free: 90 }])
    await held.settle({ tokens: 4 })
    expect(await living.budgets()).toMatchObject([{ spent: 4, assumed: 0, suspense: 0, free: 96 }])
  })
})

describe('a chain that is not believed', () => {
  test.each([
    ['of another store', { storeId: 'another' }, { elsewhere: true }],
    ['of a process that had no lock', { locked: false }, { doubt: expect.stringContaining('had no lock') }],
    ['of an earlier run of the machine', { osBoot: 'earlier' }, { doubt: expect.stringContaining('before this machine was started') }],
  ])('%s says so at its first record: what follows is not read', async (_, opened, expected) => {
    const directory = temporaryDirectory()
    const chain = openChain({ boot: 'dead', clock: systemClock, durable: false, directory })
    chain.append('open', { ...OPENED, ...opened })
    chain.append('intent', { hold: 'one', budget: 'acme', amounts: { tokens: 1 } })
    chain.close(false)
    // Whoever reads on finds a fault here, and would name that.
    const [first, second] = linesOf(directory, 'dead')
    writeFileSync(chainFile(directory, 'dead'), `${first}\n{"fault":1}\n${second}\n`)
    expect(await wordsOf(directory)).toEqual(expected)
  })

  test('was changed by somebody: that shows at its last record, and what is before is not read', async () => {
    const directory = temporaryDirectory()
    died(directory, off(-HOUR_MS))
    const lines = linesOf(directory, 'dead')
    writeFileSync(chainFile(directory, 'dead'), `${[lines[0], '{"fault":1}', ...lines.slice(1)].join('\n')}\n`)
    expect(await wordsOf(directory)).toEqual(CHANGED)
  })

  test.each(['', '{"half":', '\n', '{}\n'])('is read to find out why when its ends say nothing: %j', async (text) => {
    const directory = temporaryDirectory()
    const chain = died(directory, systemClock)
    const file = chainFile(directory, 'dead')
    writeFileSync(file, text)
    expect(await lastWords(directory, 'dead', 'store', chain.head())).toMatchObject({ doubt: expect.stringContaining(file) })
  })

  test('with half a record at its end is believed up to there, as a crash leaves it', async () => {
    const directory = temporaryDirectory()
    died(directory, systemClock)
    appendFileSync(
      chainFile(directory, 'dead'),
      encodeRecord({ v: 1, chain: 'dead', seq: 3, prev: '', t: 1, kind: 'event' }).line.slice(0, 30),
    )
    expect(await wordsOf(directory)).toMatchObject({ holds: expect.any(Map) })
  })
})
