// The second count of model calls: what a framework says it called, compared with the holds that were taken for it.

import { describe, expect, test } from 'vitest'
import { createCallObserver, observeCall } from '../../integrations/common/call-observer.ts'
import { withAmbient } from '../../src/lib/ambient.ts'
import { MODEL, atDesk } from './ai-sdk-desk.ts'

const CALL = { kind: 'model', resource: MODEL, worst: { usd: 1_000, calls: 1, tokens: 10 } }
const CALL_OF_A_TOOL = { ...CALL, kind: 'tool' }

describe('an observer', () => {
  test('counts the holds of models that are taken in what it runs, however deep, and no others', () =>
    atDesk({}, async ({ scope, events }) => {
      const observer = createCallObserver(scope)
      for (const id of ['1', '2', '2']) observer.saw('model', id)
      await observer.run(async () => {
        await scope.run(CALL_OF_A_TOOL, () => scope.run(CALL, async () => {}))
      })
      expect(observer.compare()).toBe(1)
      await observer.run(() => scope.run(CALL, async () => {}))
      expect([observer.compare(), events]).toEqual([0, ['escape']])
    }))

  test('says once what it has to say, and more when there is more', () =>
    atDesk({}, async ({ scope, records }) => {
      const observer = createCallObserver(scope)
      observer.saw('model', '1')
      observer.compare()
      observer.compare()
      observer.saw('embedding', '1')
      observer.compare()
      expect(records('event').map(({ message }) => message)).toEqual([
        expect.stringContaining('made 1 more call(s) (model) than'),
        expect.stringContaining('made 2 more call(s) (model, embedding) than'),
      ])
    }))

  test('within another one counts for both', () =>
    atDesk({}, async ({ scope, events }) => {
      const [outer, inner] = [createCallObserver(scope), createCallObserver(scope)]
      outer.saw('model', '1')
      inner.saw('model', '1')
      await outer.run(() => inner.run(() => scope.run(CALL, async () => {})))
      expect([outer.compare(), inner.compare(), events]).toEqual([0, 0, []])
    }))

  test('of one call is not alarmed by a refusal, and is by a call that failed without a hold', () =>
    atDesk({}, async ({ scope, events }) => {
      const huge = { ...CALL, worst: { usd: 10_000_000_000 } }
      await expect(observeCall(scope, 'model', () => scope.begin(huge))).rejects.toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
      expect(events).toEqual([])
      await expect(observeCall(scope, 'model', async () => Promise.reject(new Error('no paper')))).rejects.toThrow('no paper')
      expect(events).toEqual(['escape'])
    }))

  test('without a scope has nobody to tell', () =>
    withAmbient({}, async () => {
      const observer = createCallObserver(undefined)
      observer.saw('model', '1')
      expect(observer.compare()).toBe(1)
    }))
})
