// The judge, judged: its search against trying everything, and all of it against histories that a right store gave
// and that were then corrupted in one place.

import { describe, expect, onTestFinished, test } from 'vitest'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import { CORRUPTIONS } from './corruptions.ts'
import { judge } from './judge.ts'
import { openCrew } from './record.ts'
import { findOrder, MAX_OPERATIONS, type Model, type Timed } from './search.ts'
import { startSite } from './sites.ts'

/** Histories that are corrupted in each way. */
const ROUNDS = 60

describe('the search', () => {
  type Use = Timed & { readonly write?: number; readonly read?: number }
  const register: Model<number, Use> = {
    initial: 0,
    text: String,
    apply: (state, { write, read }) => (read === undefined || read === state ? (write ?? state) : undefined),
  }
  const at = (invoked: number, returned: number | null, what: Partial<Use>): Use => ({ invoked, returned, ...what })

  test('says so when it has not decided within its steps, and takes no window that is too long', () => {
    const writes = Array.from({ length: 12 }, (_, index) => at(1, 100, { write: index }))
    expect(findOrder(register, [...writes, at(101, 102, { read: 99 })], 50)).toEqual({ verdict: 'undecided' })
    expect(findOrder(register, [...writes, at(101, 102, { read: 99 })])).toMatchObject({ verdict: 'none' })
    expect(findOrder(register, [...writes, at(101, 102, { read: 5 })])).toMatchObject({ verdict: 'order' })
    expect(() =>
      findOrder(
        register,
        Array.from({ length: MAX_OPERATIONS + 1 }, () => at(1, 2, { write: 1 })),
      ),
    ).toThrow(RangeError)
  })

  test('uses what is open-ended where it helps, and leaves it out where it does not', () => {
    expect(findOrder(register, [at(1, null, { write: 7 }), at(2, 3, { read: 0 })])).toMatchObject({
      verdict: 'order',
      order: [{ read: 0 }],
    })
    expect(findOrder(register, [at(1, null, { write: 7 }), at(2, 3, { read: 7 }), at(4, 5, { read: 7 })])).toMatchObject({
      verdict: 'order',
    })
    expect(findOrder(register, [at(1, null, { write: 7 }), at(2, 3, { read: 7 }), at(4, 5, { read: 0 })])).toMatchObject({
      verdict: 'none',
    })
  })

  test('agrees with trying everything, on small histories at random', () => {
    const random = seededRandom(20_261_121)
    const below = (limit: number): number => Math.floor(random() * limit)
    const verdicts = { order: 0, none: 0, undecided: 0 }
    for (let round = 0; round < 3_000; round++) {
      const uses = Array.from({ length: 2 + below(4) }, (): Use => {
        const invoked = below(10)
        const returned = below(4) === 0 ? null : invoked + below(6)
        const settled = returned === null && below(2) === 0 ? { settled: invoked + below(6) } : {}
        return { ...settled, ...at(invoked, returned, below(2) === 0 ? { read: below(3) } : { write: below(3) }) }
      })
      const { verdict } = findOrder(register, uses)
      verdicts[verdict] += 1
      expect({ verdict, uses }).toEqual({ verdict: hasOrder(register, uses) ? 'order' : 'none', uses })
    }
    expect(Math.min(verdicts.order, verdicts.none)).toBeGreaterThan(500)
    expect(verdicts.undecided).toBe(0)
  })
})

describe('a history that was recorded, corrupted in one place', () => {
  test.each(Object.entries(CORRUPTIONS))('is rejected: %s', async (_, corrupt) => {
    const random = seededRandom(20_261_121)
    const site = await startSite('memory')
    onTestFinished(() => site.stop())
    const crew = await openCrew({ address: site.address, clients: 4, processes: 0 })
    onTestFinished(() => crew.close())
    let corrupted = 0
    for (let seed = 0; seed < ROUNDS; seed++) {
      const workload = (['mixed', 'counter', 'append'] as const)[seed % 3]!
      const { operations } = await crew.record({ workload, seed, calls: 12, troubled: 0 })
      expect(judge(operations)).toEqual([])
      const bad = corrupt(operations, random)
      if (bad === undefined) continue
      corrupted += 1
      expect({ seed, found: judge(bad).length > 0 }).toEqual({ seed, found: true })
    }
    expect(corrupted).toBeGreaterThanOrEqual(ROUNDS / 3)
  })
})

/** Whether any order of the operations, with any of the open-ended ones, is right. */
function hasOrder<State, Op extends Timed>(model: Model<State, Op>, operations: readonly Op[]): boolean {
  const definite = operations.filter(({ returned }) => returned !== null)
  const open = operations.filter(({ returned }) => returned === null)
  const choices = open.reduce<readonly (readonly Op[])[]>((sets, one) => sets.flatMap((set) => [set, [...set, one]]), [[]])
  return choices.some((happened) => permutationsOf([...definite, ...happened]).some((order) => isOrder(model, order)))
}

function isOrder<State, Op extends Timed>(model: Model<State, Op>, order: readonly Op[]): boolean {
  const end = ({ returned, settled = Infinity }: Op): number => returned ?? settled
  const inTime = order.every((later, index) => order.slice(0, index).every((one) => end(later) >= one.invoked))
  let state: State | undefined = model.initial
  for (const one of order) state = state === undefined ? undefined : model.apply(state, one)
  return inTime && state !== undefined
}

function permutationsOf<T>(list: readonly T[]): readonly (readonly T[])[] {
  if (list.length === 0) return [[]]
  return list.flatMap((first, index) => permutationsOf(list.toSpliced(index, 1)).map((rest) => [first, ...rest]))
}
