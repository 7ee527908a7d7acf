// Histories of the stores, judged; and the judge, judged: by bad histories made by hand. `node test/histories/run.ts`
// takes a thousand. Clients that are wrong on purpose are in controls.test.ts, the search itself in judge.test.ts.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BAD_HISTORIES } from './bad-histories.ts'
import type { Anomaly, History } from './history.ts'
import { loadHistory, saveHistory } from './history.ts'
import { judge } from './judge.ts'
import { available, STORES } from './sites.ts'
import { lineOf, takeHistories } from './take.ts'

/** Of each store; a fixed share of what run.ts takes. */
const HISTORIES = 40
const SEED = 20_261_121

describe('a history made by hand', () => {
  test.each(BAD_HISTORIES)('is rejected for $name; its twin is accepted', ({ check, says, bad, good }) => {
    const found = judge(bad)
    expect(found.map((anomaly) => anomaly.check)).toContain(check)
    expect(found.filter((anomaly) => anomaly.check === check).map(({ message }) => message)).toContainEqual(expect.stringMatching(says))
    expect(judge(good)).toEqual([])
  })

  test('there are twenty at least, and each check has some', () => {
    expect(BAD_HISTORIES.length).toBeGreaterThanOrEqual(20)
    expect(new Set(BAD_HISTORIES.map(({ check }) => check))).toEqual(
      new Set<Anomaly['check']>(['linearizable', 'snapshot', 'counter', 'versions', 'cycles']),
    )
  })

  test('comes back from its file as it was, and another file is refused', () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-histories-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const history: History = { format: 1, store: 'memory', seed: 1, workload: 'mixed', operations: BAD_HISTORIES[0]!.bad }
    saveHistory(join(directory, 'bad.json'), history)
    expect(loadHistory(join(directory, 'bad.json'))).toEqual(history)
    writeFileSync(join(directory, 'other.json'), '{"format":2,"operations":[]}')
    expect(() => loadHistory(join(directory, 'other.json'))).toThrow(TypeError)
  })
})

describe.each(STORES)('histories of %s', (store) => {
  test.runIf(available(store))('have no anomaly, also where answers and requests are lost or late', async () => {
    const taken = await takeHistories({ store, histories: HISTORIES, seed: SEED, clients: 5, calls: 16 })
    expect(taken.failed.map(({ history, anomalies }) => ({ seed: history.seed, anomalies }))).toEqual([])
    expect(taken.unknown).toBeGreaterThan(0)
    // Else the clients would not have met.
    expect(Math.min(taken.conflicts, taken.refused)).toBeGreaterThan(HISTORIES)
    process.stderr.write(`${lineOf(taken)}\n`)
  })
})

describe.each(['redis', 'postgres'] as const)('histories of %s whose server crashes', (store) => {
  test.runIf(available(store))('have no anomaly: what was acknowledged is there, what was refused is not', async () => {
    const taken = await takeHistories({ store, histories: 9, seed: SEED, clients: 5, calls: 16, crashed: 1 })
    expect(taken.failed.map(({ history, anomalies }) => ({ seed: history.seed, anomalies }))).toEqual([])
    expect(taken.crashes).toBe(9)
  })
})

describe.each(['redis', 'postgres', 'sqlite', 'file'] as const)('histories of %s by several processes', (store) => {
  test.runIf(available(store))('have no anomaly', async () => {
    const taken = await takeHistories({ store, histories: 9, seed: SEED, clients: 6, processes: 3, calls: 14 })
    expect(taken.failed.map(({ history, anomalies }) => ({ seed: history.seed, anomalies }))).toEqual([])
    expect(taken.operations).toBeGreaterThan(9 * 6 * 10)
  })
})
