// Which hold pays for an attempt: that of the adapter above, once, if it is of the same scope and covers what is
// really on the wire; else one of the guard's own. In doubt two are held, never none.

import { describe, expect, test } from 'vitest'
import { guardFetch, unguarded } from '../../integrations/transport/guard-fetch.ts'
import { memoryStore, openKernel } from '../../src/index.ts'
import { withAmbient } from '../../src/lib/ambient.ts'
import { SUITE_MODEL, type Bench } from '../../src/testing/integration-bench.ts'
import type { Action } from '../../src/waist/action.ts'
import { chatBody, endsOf, onBench, poster } from './bench.ts'

/** A hold as an adapter above takes it. */
function adapterHold(bench: Bench, worst: Action['worst'] = { usd: 1_000_000, tokens: 10_000, calls: 1 }) {
  return bench.scope.begin({ kind: 'model', resource: SUITE_MODEL, worst })
}

describe('the hold of an adapter', () => {
  test('pays for the first attempt that finds it, and for no other', () =>
    onBench({}, async (bench) => {
      const hold = await adapterHold(bench)
      const post = poster(bench)
      await withAmbient({ hold }, async () => {
        await post(chatBody())
        await post(chatBody())
      })
      const outcomes = await bench.outcomes()
      expect(outcomes.map(({ outcome }) => outcome)).toEqual(['settled', 'settled'])
      expect(outcomes.map((end) => end.hold === hold.id)).toEqual([true, false])
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('is claimed once by attempts at the same time', () =>
    onBench({}, async (bench) => {
      const hold = await adapterHold(bench)
      const post = poster(bench)
      await withAmbient({ hold }, () => Promise.all([post(chatBody()), post(chatBody()), post(chatBody())]))
      const outcomes = await bench.outcomes()
      expect(new Set(outcomes.map((end) => end.hold)).size).toBe(3)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('of another scope is not claimed', () =>
    onBench({}, async (bench) => {
      const { kernel } = bench
      const mine = { agent: 'suite-agent', task: 'suite-task', budget: 'suite/run' }
      for (const other of [{ budget: 'suite/other' }, { agent: 'somebody' }, { task: 'something' }]) {
        const hold = await kernel
          .scope({ ...mine, ...other })
          .begin({ kind: 'model', resource: 'm', worst: { usd: 1_000_000, tokens: 10_000, calls: 1 } })
        await withAmbient({ hold }, () => poster(bench)(chatBody()))
        expect(hold.state).toBe('held')
        await hold.release('not used')
      }
      expect((await endsOf(bench)).filter((outcome) => outcome === 'settled')).toHaveLength(3)
    }))

  test('of another kernel with the same names is not claimed', () =>
    onBench({}, async (bench) => {
      await using other = await openKernel({ store: memoryStore(), budgets: { suite: { usd: 1 }, 'suite/run': { usd: 1 } } })
      const { agent, task, budget } = bench.scope
      const hold = await other
        .scope({ agent, task, budget })
        .begin({ kind: 'model', resource: 'm', worst: { usd: 1_000_000, tokens: 10_000, calls: 1 } })
      await withAmbient({ hold }, () => poster(bench)(chatBody()))
      expect(hold.state).toBe('held')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test.each([
    ['money', { usd: 10, tokens: 10_000, calls: 1 }],
    ['tokens', { usd: 1_000_000, tokens: 10, calls: 1 }],
    ['a dimension at all', { usd: 1_000_000, tokens: 10_000 }],
  ])('that has too little of %s for what is on the wire is not claimed, and goes back by the id of the answer', (_, worst) =>
    onBench({}, async (bench) => {
      const hold = await adapterHold(bench, worst)
      const response = await withAmbient({ hold }, () => poster(bench)(chatBody()))
      const { id } = (await response.json()) as { id: string }
      expect(hold.state).toBe('held')
      await hold.settle({ usd: 5, tokens: 5, calls: 1 }, { responseId: id })
      expect(hold.state).toBe('released')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }),
  )

  test('that was not claimed is settled when the answer has another id: in doubt it is counted twice', () =>
    onBench({}, async (bench) => {
      const hold = await adapterHold(bench, { usd: 10, tokens: 10, calls: 1 })
      await withAmbient({ hold }, () => poster(bench)(chatBody()))
      await hold.settle({ usd: 5, tokens: 5, calls: 1 }, { responseId: 'chatcmpl-other' })
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd + 5)
    }))

  test('that was claimed is ended by its attempt alone', () =>
    onBench({}, async (bench) => {
      const hold = await adapterHold(bench)
      await withAmbient({ hold }, () => poster(bench)(chatBody()))
      await hold.charge('the framework failed')
      await hold.release('the framework failed otherwise')
      expect(hold.state).toBe('settled')
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test.each(['before', 'after'])('that was claimed and settled by its framework %s the wire: agreement is silent', (when) =>
    onBench({ answers: [{ usage: { inputTokens: 7, outputTokens: 3 } }] }, async (bench) => {
      const hold = await adapterHold(bench)
      const same = { usd: 7 * 150 + 3 * 600, tokens: 10, calls: 1 }
      const fetch: typeof globalThis.fetch = async (url, init) => {
        if (when === 'before') await hold.settle(same)
        return globalThis.fetch(url, init)
      }
      await withAmbient({ hold }, () => poster(bench, { fetch })(chatBody()))
      if (when === 'after') await hold.settle(same)
      expect(bench.events).toEqual([])
    }),
  )

  test.each(['before', 'after'])(
    'that was claimed and settled otherwise by its framework %s the wire: an escape event, and the wire counts',
    (when) =>
      onBench({ expected: ['escape'], answers: [{ usage: { inputTokens: 7, outputTokens: 3 } }] }, async (bench) => {
        const hold = await adapterHold(bench)
        const other = { usd: 1, tokens: 1, calls: 1 }
        const fetch: typeof globalThis.fetch = async (url, init) => {
          if (when === 'before') await hold.settle(other)
          return globalThis.fetch(url, init)
        }
        await withAmbient({ hold }, () => poster(bench, { fetch })(chatBody()))
        if (when === 'after') await hold.settle(other)
        expect(bench.events.map(({ type }) => type)).toEqual(['escape'])
        expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
      }),
  )
})

describe('two guards', () => {
  test('on top of each other hold once', () =>
    onBench({}, async (bench) => {
      const inner = guardFetch(bench.kernel.scope({ agent: 'suite-agent', task: 'inner', budget: 'suite/other' }))
      expect(unguarded(inner)).not.toBe(inner)
      await poster(bench, { fetch: inner })(chatBody())
      expect(await endsOf(bench)).toEqual(['settled'])
      expect(await bench.spent('suite/other')).toBe(0)
      expect(await bench.spent()).toBe(bench.provider.bill().nanoUsd)
    }))

  test('with something between them that hides the lower one hold twice: doubt costs, and nothing escapes', () =>
    onBench({}, async (bench) => {
      const inner = guardFetch(bench.scope)
      await poster(bench, { fetch: (url, init) => inner(url, init) })(chatBody())
      expect(await endsOf(bench)).toEqual(['settled', 'settled'])
      expect(await bench.spent()).toBe(2 * bench.provider.bill().nanoUsd)
    }))
})
