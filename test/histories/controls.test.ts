// Negative controls on real servers: clients that are wrong in the usual ways are found, each by the check that is there
// for it.

import { describe, expect, test } from 'vitest'
import type { Break } from './broken-clients.ts'
import type { Anomaly, Workload } from './history.ts'
import { available, type StoreName } from './sites.ts'
import { takeHistories } from './take.ts'

/** Within so many; most are found in the first. */
const HISTORIES = 40
const SEED = 20_261_121

/** What each mistake looks like: in which workload, to which check. */
const CONTROLS: readonly (readonly [Break, Workload, Anomaly['check'], RegExp])[] = [
  ['sends-twice', 'counter', 'linearizable', /no order explains it/],
  ['unknown-is-no', 'counter', 'linearizable', /no order explains it/],
  ['stale-cache', 'mixed', 'linearizable', /read/],
  ['stale-cache', 'append', 'cycles', /against real time|G-single|G2/],
  ['torn-reads', 'mixed', 'snapshot', /whole store/],
  ['torn-reads', 'append', 'cycles', /G-single/],
  ['no-checks', 'append', 'cycles', /lost update|G2/],
  ['no-bounds', 'counter', 'counter', /surely granted|below the bound|could not fit/],
]

describe.each(['redis', 'postgres'] as const)('control: clients of %s that are wrong on purpose', (store: StoreName) => {
  test.runIf(available(store)).each(CONTROLS)('%s is found in a history of %s by %s', async (mistake, workload, check, says) => {
    const isIt = (anomaly: Anomaly): boolean => anomaly.check === check && says.test(anomaly.message)
    const common = { store, histories: HISTORIES, seed: SEED, clients: 5, calls: 16, troubled: 1 }
    const { failed } = await takeHistories({ ...common, mistake, workload, stopAt: (anomalies) => anomalies.some(isIt) })
    expect(failed.flatMap(({ anomalies }) => anomalies).some(isIt)).toBe(true)
  })
})
