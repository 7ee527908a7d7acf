// The kill switch: what a stop covers begins nothing any more, in every kernel on the store, until it is lifted.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fork } from 'node:child_process'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { MAX_STOPS, STOPS_KEY } from '../../src/kernel/stops.ts'
import { Refusal } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { until } from '../../src/testing/integration-bench.ts'

const WHY = { by: 'ada', reason: 'odd calls since noon' } as const
const BUDGETS = {
  acme: { tokens: 1_000 },
  'acme/*': { tokens: 1_000 },
  other: { tokens: 1_000 },
  users: { tokens: 500 },
  'users/*': { tokens: 100 },
}
const TOOL = { kind: 'tool', resource: 'search', worst: { tokens: 1 } } as const

const open: Kernel[] = []
afterEach(async () => {
  for (const kernel of open.splice(0)) await kernel.close()
})

async function kernelOn(store: Store, options: Partial<KernelOptions> = {}): Promise<Kernel> {
  const kernel = await openKernel({ store, budgets: BUDGETS, waitMs: 0, onEvent: () => undefined, ...options })
  open.push(kernel)
  return kernel
}

const scopeOf = (kernel: Kernel, budget = 'acme/a', agent = 'writer', also: readonly string[] = []) =>
  kernel.scope({ agent, task: 'report', budget, also })

/** The code with which an action is refused, `undefined` when it may run. */
async function codeOf(kernel: Kernel, budget?: string, agent?: string, also?: readonly string[]): Promise<string | undefined> {
  try {
    await (await scopeOf(kernel, budget, agent, also).begin(TOOL)).settle({ tokens: 1 })
    return undefined
  } catch (error) {
    if (!Refusal.isInstance(error)) throw error
    return error.code
  }
}

const records = (kernel: Kernel): readonly Record<string, unknown>[] =>
  kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>)

describe('a stop', () => {
  test('of a budget refuses all below it, whoever works there and as which of its budgets; nothing else', async () => {
    const kernel = await kernelOn(memoryStore())
    await kernel.stop({ budget: 'acme', ...WHY })
    expect(await codeOf(kernel, 'acme')).toBe('ERR_STOPPED')
    expect(await codeOf(kernel, 'acme/a')).toBe('ERR_STOPPED')
    expect(await codeOf(kernel, 'other')).toBeUndefined()
    await kernel.stop({ budget: 'users/ann', ...WHY })
    expect(await codeOf(kernel, 'other', 'writer', ['users/ann'])).toBe('ERR_STOPPED')
    expect(await codeOf(kernel, 'other', 'writer', ['users/anna'])).toBeUndefined()
  })

  test('of an agent refuses it wherever it works, and nobody else; a stop of everything refuses all', async () => {
    const kernel = await kernelOn(memoryStore())
    await kernel.stop({ agent: 'writer', ...WHY })
    expect(await codeOf(kernel, 'other', 'writer')).toBe('ERR_STOPPED')
    expect(await codeOf(kernel, 'other', 'reader')).toBeUndefined()
    await kernel.stop({ everything: true, ...WHY })
    expect(await codeOf(kernel, 'other', 'reader')).toBe('ERR_STOPPED')
  })

  test('ends when it is lifted, by its own target and no other', async () => {
    const kernel = await kernelOn(memoryStore())
    const { id } = await kernel.stop({ budget: 'acme', ...WHY })
    await kernel.stop({ agent: 'writer', ...WHY })
    expect(await kernel.resume({ budget: 'acme/a', ...WHY })).toBeUndefined()
    expect(await kernel.resume({ budget: 'acme', ...WHY })).toMatchObject({ id, budget: 'acme' })
    expect(await codeOf(kernel, 'acme/a', 'reader')).toBeUndefined()
    expect(await codeOf(kernel, 'acme/a', 'writer')).toBe('ERR_STOPPED')
    await kernel.resume({ agent: 'writer', ...WHY })
    expect(await codeOf(kernel, 'acme/a', 'writer')).toBeUndefined()
    expect(await kernel.stops()).toEqual([])
  })

  test('comes before the gates and before money: nothing is asked, held or written for what it covers', async () => {
    let asked = 0
    const gate = { name: 'counter', decide: () => ((asked += 1), { verdict: 'allow' } as const) }
    const kernel = await kernelOn(memoryStore(), { gates: [gate] })
    await kernel.stop({ everything: true, ...WHY })
    const refusal = await scopeOf(kernel)
      .begin({ ...TOOL, with: { set: [{ key: 'mine', value: 1 }] } })
      .catch((error: unknown) => error)
    expect(refusal).toMatchObject({ code: 'ERR_STOPPED', status: 402, details: { endsRun: true, stop: { by: 'ada' } } })
    expect(asked).toBe(0)
    expect(records(kernel).filter(({ kind }) => kind === 'intent')).toEqual([])
    expect(await kernel.store.read(['mine'])).toEqual([null])
    expect(await scopeOf(kernel).decide(TOOL)).toMatchObject({ code: 'ERR_STOPPED' })
  })

  test('holds in observe mode too: it is an order, no limit', async () => {
    const kernel = await kernelOn(memoryStore(), { mode: 'observe' })
    await kernel.stop({ everything: true, ...WHY })
    expect(await codeOf(kernel)).toBe('ERR_STOPPED')
  })

  test('lets what runs be settled, and moves no money', async () => {
    const kernel = await kernelOn(memoryStore())
    const hold = await scopeOf(kernel, 'other').begin({ ...TOOL, worst: { tokens: 10 } })
    await kernel.stop({ everything: true, ...WHY })
    await hold.settle({ tokens: 7 })
    const [line] = await kernel.budgets('other')
    expect(line).toMatchObject({ spent: 7, limit: 1_000 })
  })

  test('reaches who waits for money when it comes: the money goes back', async () => {
    const kernel = await kernelOn(memoryStore(), { waitMs: 5_000, leasing: 'off' })
    const scope = scopeOf(kernel, 'other')
    const busy = await scope.begin({ ...TOOL, worst: { tokens: 1_000 } })
    const waiting = scope.begin({ ...TOOL, worst: { tokens: 10 } }).catch((error: unknown) => error)
    await kernel.stop({ agent: 'writer', ...WHY })
    await busy.release('not sent')
    expect(await waiting).toMatchObject({ code: 'ERR_STOPPED' })
    expect(await kernel.budgets('other')).toMatchObject([{ free: 1_000, out: 0 }])
  })

  test('is remembered by a run: one record of it, and the same answer to all that follows', async () => {
    const kernel = await kernelOn(memoryStore())
    await kernel.stop({ budget: 'acme', ...WHY })
    const scope = scopeOf(kernel)
    await scope.enter(async () => {
      const first: unknown = await scope.begin(TOOL).catch((error: unknown) => error)
      const second: unknown = await scope.begin(TOOL).catch((error: unknown) => error)
      expect([first, second]).toMatchObject([{ code: 'ERR_STOPPED' }, { code: 'ERR_STOPPED', details: { latched: true } }])
      expect(scope.refusal?.code).toBe('ERR_STOPPED')
      await kernel.resume({ budget: 'acme', ...WHY })
      await (await scope.begin(TOOL)).settle({ tokens: 1 })
    })
    expect(records(kernel).filter(({ kind }) => kind === 'refused')).toHaveLength(1)
  })

  test('is on record with who and why before it is there, and so is its end', async () => {
    const kernel = await kernelOn(memoryStore())
    await kernel.stop({ budget: 'acme', ...WHY })
    await kernel.resume({ budget: 'acme', by: 'bob', reason: 'all clear' })
    const events = records(kernel).filter(({ kind }) => kind === 'event')
    expect(events.map(({ type, by }) => [type, by])).toEqual([
      ['stop', 'ada'],
      ['stop-done', 'ada'],
      ['resume', 'bob'],
      ['resume-done', 'bob'],
    ])
    await expect(kernel.stop({ budget: 'acme', by: 'ada', reason: ' ' })).rejects.toThrow(TypeError)
    expect(await kernel.stops()).toEqual([])
  })

  test('for a while ends by itself, by the clock of the store', async () => {
    let ahead = 0
    const store = memoryStore({ clock: { now: () => Date.now() + ahead } })
    const kernel = await kernelOn(store)
    const { untilMs, atMs } = await kernel.stop({ budget: 'acme', forMs: 60_000, ...WHY })
    expect(untilMs! - atMs).toBe(60_000)
    expect(await codeOf(kernel)).toBe('ERR_STOPPED')
    ahead = 60_001
    await until('the next look has found it over', async () => (await codeOf(kernel)) === undefined)
    expect(await kernel.stops()).toEqual([])
  })

  test('is replaced by one of the same target, and never shortened by it', async () => {
    const kernel = await kernelOn(memoryStore())
    await kernel.stop({ budget: 'acme', ...WHY })
    await kernel.stop({ budget: 'acme', by: 'bob', reason: 'again', forMs: 1 })
    expect(await kernel.stops()).toMatchObject([{ budget: 'acme', by: 'bob' }])
    expect((await kernel.stops())[0]).not.toHaveProperty('untilMs')
  })

  test('has exactly one target; there are at most so many of them', async () => {
    const kernel = await kernelOn(memoryStore())
    for (const target of [{}, { budget: 'acme', agent: 'writer' }, { everything: false }, { budget: 'acme/*' }, { agent: '' }])
      await expect(kernel.stop({ ...(target as { everything: true }), ...WHY })).rejects.toThrow(TypeError)
    for (const forMs of [0, -1, 1.5, 366 * 24 * 3_600_000 + 1])
      await expect(kernel.stop({ everything: true, forMs, ...WHY })).rejects.toThrow(/forMs/)
    for (let count = 0; count < MAX_STOPS; count++) await kernel.stop({ agent: `a${count}`, ...WHY })
    await expect(kernel.stop({ agent: 'one more', ...WHY })).rejects.toThrow(RangeError)
    await kernel.stop({ agent: 'a0', ...WHY })
  })

  test('that is written by many at once is lost by none', async () => {
    const store = memoryStore()
    const kernels = await Promise.all([kernelOn(store), kernelOn(store)])
    await Promise.all(Array.from({ length: 20 }, (_, at) => kernels[at % 2]!.stop({ agent: `a${at}`, ...WHY })))
    expect(await kernels[0].stops()).toHaveLength(20)
  })
})

describe('a stop by somebody else', () => {
  test('reaches the other kernels on the store', async () => {
    const store = memoryStore()
    const [one, other] = [await kernelOn(store), await kernelOn(store)]
    await one.stop({ budget: 'acme', ...WHY })
    await until('the other knows', async () => (await codeOf(other)) === 'ERR_STOPPED')
    await one.resume({ budget: 'acme', ...WHY })
    await until('the other goes on', async () => (await codeOf(other)) === undefined)
    expect(await codeOf(one)).toBeUndefined()
  })

  test('reaches a kernel that watch tells nothing, at the next look', async () => {
    const store = memoryStore()
    const deaf = await kernelOn({ ...store, watch: () => () => undefined })
    const one = await kernelOn(store)
    await one.stop({ budget: 'acme', ...WHY })
    await until('it has looked', async () => (await codeOf(deaf)) === 'ERR_STOPPED')
    expect(await codeOf(deaf, 'other')).toBeUndefined()
  })

  test('is there for a kernel that is opened after it', async () => {
    const store = memoryStore()
    await (await kernelOn(store)).stop({ everything: true, ...WHY })
    expect(await codeOf(await kernelOn(store))).toBe('ERR_STOPPED')
  })

  test('is not read by begin: an action on a lease asks the store nothing', async () => {
    const inner = memoryStore()
    let looks = 0
    const read: Store['read'] = (keys) => {
      if (keys.includes(STOPS_KEY)) looks += 1
      return inner.read(keys)
    }
    const kernel = await kernelOn({ ...inner, read })
    for (let count = 0; count < 20; count++) await codeOf(kernel, 'other')
    const before = looks
    for (let count = 0; count < 200; count++) await codeOf(kernel, 'other')
    // The look once a second is all that there is.
    expect(looks - before).toBeLessThanOrEqual(2)
  })

  test('of a newer format is damage for who opens, and who is open goes on with what it knows', async () => {
    const store = memoryStore()
    const kernel = await kernelOn(store)
    await store.apply([{ set: [{ key: STOPS_KEY, value: { format: 2, stops: [] } }] }])
    await expect(openKernel({ store, onEvent: () => undefined })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
    expect(await codeOf(kernel)).toBeUndefined()
  })

  test('in another process ends the work of this one', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-stop-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const store = fileStore(directory, { durability: 'os' })
    onTestFinished(() => store.close())
    const kernel = await kernelOn(store, { data: join(directory, 'chains') })
    expect(await codeOf(kernel)).toBeUndefined()
    const child = fork(join(import.meta.dirname, 'stopper.ts'), [directory], { execArgv: [] })
    onTestFinished(() => void child.kill('SIGKILL'))
    await until('it was stopped from there', async () => (await codeOf(kernel)) === 'ERR_STOPPED')
    child.send('lift')
    await until('it was lifted from there', async () => (await codeOf(kernel)) === undefined)
    await kernel.close()
  })
})
