// The law of stores, as tests: whoever writes a store runs this suite on it. It knows no runner and no
// implementation; a store that cannot do something says so itself, test by test, with a reason. What money
// depends on, the safety chapter, cannot be waived.
//
//   testStore(test, { name: 'redis', create: async () => ({ store: redisStore(client) }), second: async () => redisStore(other) })

import assert from 'node:assert/strict'
import { runCase, type StoreAccess, type StoreCase } from './store-bench.ts'
import { concurrencyCases } from './store-concurrency.ts'
import { dataCases } from './store-data.ts'
import { groupCases } from './store-groups.ts'
import { safetyCases } from './store-safety.ts'

/** Registers one test; `test` of vitest, of `node:test` and of Jest are such functions. */
export type RegisterTest = (name: string, run: () => Promise<void>) => unknown

/** A test that a store does not pass, and why that is right for it. */
export interface Waiver {
  /** Name of the test, without the name of the store. */
  readonly test: string
  readonly reason: string
}

/** Options of {@link testStore}. */
export interface StoreSuiteOptions extends StoreAccess {
  /** Begins the name of every test. */
  readonly name: string
  /** @default none */
  readonly waive?: readonly Waiver[]
}

// A store whose suite was not given a second client would pass without the tests that matter most.
const ACCESS_CASES: readonly StoreCase[] = [
  {
    name: 'safety: a store that is shared between processes is tested with a second client',
    async run({ store, second }) {
      if (store.capabilities.shared !== 'process') assert.equal((await second()).id, store.id)
    },
  },
  {
    name: 'safety: a store that says it is durable is tested by opening it again',
    async run({ store, reopen }) {
      if (store.capabilities.durable !== 'none') assert.equal((await reopen()).id, store.id)
    },
  },
]

const CASES: readonly StoreCase[] = [...ACCESS_CASES, ...safetyCases, ...concurrencyCases, ...dataCases, ...groupCases]

/**
 * Registers the tests of the store contract.
 *
 * Tests of two clients need `second`, those of opening again need `reopen`; a store that is shared or durable
 * fails the suite without them.
 *
 * @throws {TypeError} For a waiver of an unknown test, of one in the safety chapter, or without a reason.
 */
export function testStore(test: RegisterTest, options: StoreSuiteOptions): void {
  const reasons = new Map((options.waive ?? []).map((waiver) => [waiver.test, assertWaiver(waiver)]))
  for (const storeCase of CASES) {
    if (storeCase.needs !== undefined && options[storeCase.needs] === undefined) continue
    const reason = reasons.get(storeCase.name)
    if (reason === undefined) test(`${options.name} ${storeCase.name}`, () => runCase(storeCase, options))
    // A waived test stays in the report, with its reason.
    else test(`${options.name} ${storeCase.name} (waived: ${reason})`, async () => {})
  }
}

function assertWaiver({ test, reason }: Waiver): string {
  if (!CASES.some(({ name }) => name === test)) throw new TypeError(`The store suite has no test ${JSON.stringify(test)} to waive.`)
  if (test.startsWith('safety:')) throw new TypeError(`${JSON.stringify(test)} is about safety and cannot be waived.`)
  if (reason.trim() === '') throw new TypeError(`The waiver of ${JSON.stringify(test)} needs a reason.`)
  return reason
}
