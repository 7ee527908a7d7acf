// Random histories against a model. Several kernels share one store as if each were a process: they take, settle,
// release, charge and correct, fall silent, are swept, die, and raise and lower limits; some only observe. After
// every step each counter must be what the model says, and every budget balanced; at the end nothing is held that no
// one owns.

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { balanced, keys, needing } from './bench.ts'
import { PATIENCE_MS, createModel, rowsOf, type Model, type ModelHold, type ModelProcess } from './ledger-model.ts'
import { LIMITS, RUNS, START_MS, amounts, budgetsOf, onEvent, path, scopeOf } from './property-bench.ts'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { settableClock, type SettableClock } from '../../src/testing/store-bench.ts'
import type { Hold } from '../../src/waist/hold.ts'

interface Process {
  readonly kernel: Kernel
  readonly model: ModelProcess
  dead: boolean
}

interface Held {
  readonly hold: Hold
  readonly model: ModelHold
  readonly owner: Process
}

/** The real ledger: kernels on one store, with the holds that they have. */
interface Real {
  readonly store: Store
  readonly clock: SettableClock
  readonly processes: Process[]
  readonly held: Held[]
  readonly revisions: Record<string, number>
}

type Command = fc.AsyncCommand<Model, Real>

async function assertAgrees(model: Model, { store }: Real): Promise<void> {
  expect(rowsOf(await balanced(store))).toEqual(model.rows())
  const records = await Promise.all(['hold/', 'suspended/', 'charged/'].map((prefix) => keys(store, prefix)))
  expect(records.map(({ length }) => length)).toEqual(model.records())
}

/** A step, as fast-check wants it; after it the two must agree. */
function command(name: string, run: (model: Model, real: Real) => Promise<void>, check: (model: Model) => boolean = () => true): Command {
  return {
    check,
    async run(model, real) {
      await run(model, real)
      await assertAgrees(model, real)
    },
    toString: () => name,
  }
}

const living = ({ processes }: Real): readonly Process[] => processes.filter(({ dead }) => !dead)
const pick = <T>(list: readonly T[], index: number): T | undefined => list[index % Math.max(1, list.length)]

const take = (at: number, path: string, amounts: Amounts): Command =>
  command(`take ${JSON.stringify(amounts)} from ${path} by ${at}`, async (model, real) => {
    const owner = pick(living(real), at)
    if (owner === undefined) return
    const expected = model.take(owner.model, path, amounts)
    const answer = await scopeOf(owner.kernel, path)
      .begin(needing(amounts))
      .catch((error: unknown) => error)
    if ('refused' in expected) {
      expect(Refusal.isInstance(answer) ? answer.code : answer).toBe(expected.refused)
      await noteRegistration(model, owner)
    } else real.held.push({ hold: answer as Hold, model: expected.granted, owner })
    expect((answer as Partial<Hold>).state).toBe('refused' in expected ? undefined : 'held')
  })

/** Whoever was refused may have registered with its try, or only looked: the store knows. Money does not depend on it. */
async function noteRegistration(model: Model, { kernel, model: process }: Process): Promise<void> {
  const [record] = await kernel.store.read([`process/${kernel.boot}`])
  if (record !== null) process.renewedAtMs ??= model.nowMs
}

/** Several at once, from all processes: which of them fit depends on who is first, and the ledger must agree with what it said. */
const burst = (asks: readonly { readonly at: number; readonly path: string; readonly amounts: Amounts }[]): Command =>
  command(`${asks.length} takes at once`, async (model, real) => {
    const owners = living(real).filter(({ model: { observe } }) => !observe)
    if (owners.length === 0) return
    // Who is refused looks for the dead; who that would be first is not to matter here.
    for (const { model: by, kernel } of living(real)) {
      model.sweep(by)
      await kernel.sweep()
    }
    const answers = await Promise.all(
      asks.map(async ({ at, path, amounts }) => {
        const owner = pick(owners, at)!
        const answer: unknown = await scopeOf(owner.kernel, path)
          .begin(needing(amounts))
          .catch((error: unknown) => error)
        return { owner, path, amounts, answer }
      }),
    )
    for (const { owner, path, amounts, answer } of answers) {
      if (!Refusal.isInstance(answer)) real.held.push({ hold: answer as Hold, model: model.granted(owner.model, path, amounts), owner })
      else await noteRegistration(model, owner)
    }
    expect(answers.map(({ answer }) => Refusal.isInstance(answer) || (answer as Hold).state)).toEqual(
      answers.map(({ answer }) => Refusal.isInstance(answer) || 'held'),
    )
  })

type End = 'settle' | 'release' | 'charge'

/** Ends a hold, early or late: also one that was charged before, or that lies in suspense. */
const end = (index: number, how: End, shares: Amounts): Command =>
  command(`${how} ${index} with ${JSON.stringify(shares)}`, async (_, real) => {
    const open = real.held.filter(
      ({ hold, owner }) => !owner.dead && (hold.state === 'held' || (hold.state === 'charged' && how !== 'charge')),
    )
    const held = pick(open, index)
    if (held !== undefined) await endOne(_, held, how, shares)
  })

async function endOne(model: Model, { hold, model: expected }: Held, how: End, shares: Amounts): Promise<void> {
  const scaled = Object.entries(shares).map(
    ([dimension, share]) => [dimension, Math.floor((share * (hold.amounts[dimension] ?? 5)) / 10)] as const,
  )
  const used: Amounts = { ...hold.amounts, ...(how === 'settle' ? Object.fromEntries(scaled) : {}) }
  const nothing = Object.fromEntries(Object.keys(hold.amounts).map((dimension) => [dimension, 0]))
  model.end(expected, how === 'release' ? nothing : used, how === 'charge' ? 'charge' : 'settle')
  if (how === 'settle') await hold.settle(used)
  else await hold[how]('property')
}

/** Time passes, and a living process looks at the others: the silent ones among them lose their holds to suspense. */
const pass = (at: number, ms: number): Command =>
  command(`${ms} ms pass, ${at} sweeps`, async (model, real) => {
    model.nowMs += ms
    real.clock.set(START_MS + model.nowMs)
    const sweeper = pick(living(real), at)
    if (sweeper === undefined) return
    model.sweep(sweeper.model)
    await sweeper.kernel.sweep()
  })

const kill = (at: number): Command =>
  command(`${at} dies`, async (_, real) => {
    const victim = pick(living(real), at)
    if (victim !== undefined && living(real).length > 1) victim.dead = true
  })

const declare = (path: string, dimension: string, by: number): Command =>
  command(
    `${dimension} of ${path} changes by ${by}`,
    async (model, real) => {
      const wanted = { ...model.limits[path], [dimension]: Math.max(0, model.limits[path]![dimension]! + by) }
      const budgets = budgetsOf({ ...model.limits, [path]: wanted }, { ...real.revisions, [path]: (real.revisions[path] ?? 1) + 1 })
      const accepted = model.declare(path, wanted)
      if (!accepted) {
        await expect(openKernel({ store: real.store, budgets, onEvent })).rejects.toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
        return
      }
      real.revisions[path] = (real.revisions[path] ?? 1) + 1
      model.sweep()
      await (await openKernel({ store: real.store, budgets, onEvent })).close()
    },
    // A shape that is lowered may be half done when one of its children has too little: that is told, not rolled back.
    (model) => model.limits[path]![dimension] !== undefined && (by > 0 || !path.includes('*')),
  )

const at = fc.nat(5)
const share = fc.integer({ min: 0, max: 13 })
const shares = fc.record({ tokens: share, calls: share, usd: share }, { requiredKeys: [] })
const commands = fc.commands(
  [
    fc.tuple(at, path, amounts).map((given) => take(...given)),
    fc.tuple(at, path, amounts).map((given) => take(...given)),
    fc.array(fc.record({ at, path, amounts }), { minLength: 2, maxLength: 6 }).map(burst),
    fc.tuple(fc.nat(20), fc.constantFrom<End>('settle', 'settle', 'release', 'charge'), shares).map((given) => end(...given)),
    fc.tuple(fc.nat(20), fc.constantFrom<End>('settle', 'settle', 'release', 'charge'), shares).map((given) => end(...given)),
    fc.tuple(at, fc.constantFrom(1, 300_000, PATIENCE_MS)).map((given) => pass(...given)),
    at.map(kill),
    fc
      .tuple(fc.constantFrom(...Object.keys(LIMITS)), fc.constantFrom('tokens', 'calls', 'usd'), fc.constantFrom(-7, -1, 1, 9))
      .map((given) => declare(...given)),
  ],
  { maxCommands: 60, size: 'max' },
)

/** Everybody who lives says what he used; then nothing may be held but what the dead had, and that lies in suspense. */
async function assertNothingLeaks(model: Model, real: Real): Promise<void> {
  for (const held of real.held.filter(({ hold, owner }) => !owner.dead && hold.state === 'held'))
    await endOne(model, held, 'settle', { tokens: 5 })
  model.nowMs += PATIENCE_MS
  real.clock.set(START_MS + model.nowMs)
  model.sweep()
  await (await openKernel({ store: real.store, onEvent })).close()
  await assertAgrees(model, real)
  expect(Object.values(model.rows()).every(({ out }) => out === 0)).toBe(true)
  expect(await keys(real.store, 'hold/')).toEqual([])
  expect(await keys(real.store, 'process/')).toEqual([])
}

test(
  `in ${RUNS} random histories every counter is what the model says, after every step, and nothing leaks`,
  { timeout: 120_000 + RUNS * 100 },
  async () => {
    let steps = 0
    const history = fc.asyncProperty(fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }), commands, async (modes, steps_) => {
      const model = createModel({ ...LIMITS })
      const clock = settableClock(START_MS)
      const real: Real = { store: memoryStore({ clock }), clock, processes: [], held: [], revisions: {} }
      for (const observe of [false, ...modes.map((mode) => mode && modes.length > 2)]) {
        const kernel = await openKernel({
          store: real.store,
          budgets: budgetsOf(LIMITS, {}),
          mode: observe ? 'observe' : 'enforce',
          waitMs: 0,
          leasing: 'off',
          leaseTtlMs: PATIENCE_MS - 2_000,
          onEvent,
        })
        const process = { observe, renewedAtMs: undefined }
        model.processes.push(process)
        real.processes.push({ kernel, model: process, dead: false })
      }
      await fc.asyncModelRun(() => ({ model, real }), steps_)
      steps += [...steps_].length
      await assertNothingLeaks(model, real)
      for (const { kernel } of real.processes) await kernel.close()
    })
    await fc.assert(history, { numRuns: RUNS })
    expect(steps).toBeGreaterThan(RUNS * 15)
  },
)
