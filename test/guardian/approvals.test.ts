// An approval is for one agent, one tool and exactly these arguments, once: by however many callers and processes it
// is wanted at the same time. It is used up in the commit of the money, or not at all, and ends by the store's clock.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Rule } from '../../src/waist/rule.ts'
import type { Kernel, KernelOptions } from '../../src/kernel/open-kernel.ts'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import type { Refusal } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock, times } from '../../src/testing/store-bench.ts'
import { open, refusalOf } from '../budget/bench.ts'
import { hashOf, openWith, scopeOf, tried } from './guard.ts'

const RULES: readonly Rule[] = [
  { effect: 'ask', tool: ['pay', 'send'] },
  { effect: 'deny', tool: 'send', agent: 'bob' },
]
const ARGS = { to: 'eve', usd: 7 }

function approve(kernel: Kernel, args: unknown, about: Partial<Parameters<Kernel['approve']>[0]> = {}): Promise<void> {
  return kernel.approve({ agent: 'ann', tool: 'pay', argsHash: hashOf(args), by: 'boss', expiresInMs: 60_000, ...about })
}

function approvals(store: Store): Promise<number> {
  return store.list('approval/', { limit: 100 }).then(({ length }) => length)
}

function fileStoreOfTest(): Store {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-'))
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(async () => {
    await store.close()
    rmSync(directory, { recursive: true })
  })
  return store
}

function opened(options: Partial<KernelOptions> = {}): Promise<Kernel> {
  return openWith(RULES, options)
}

describe('a tool that a rule asks for', () => {
  test('is refused with the hash of its arguments, the thing to approve', async () => {
    const kernel = await opened()
    const refusal = (await scopeOf(kernel)
      .begin({ kind: 'tool', resource: 'pay', args: ARGS })
      .catch((error: unknown) => error)) as Refusal
    expect(refusal).toMatchObject({ code: 'ERR_APPROVAL_REQUIRED', details: { agent: 'ann', resource: 'pay', argsHash: hashOf(ARGS) } })
    expect(refusal.details.wouldPass).toContain(hashOf(ARGS))
    await approve(kernel, ARGS, { argsHash: refusal.details.argsHash! })
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('passed')
  })

  test('passes once when it was approved once, twice when twice', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS)
    expect([await tried(scopeOf(kernel), 'pay', ARGS), await tried(scopeOf(kernel), 'pay', ARGS)]).toEqual([
      'passed',
      'ERR_APPROVAL_REQUIRED',
    ])
    await approve(kernel, ARGS)
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('passed')
  })

  test('has one approval, however often it was approved before it was used', async () => {
    const kernel = await opened()
    for (const by of ['boss', 'other boss']) await approve(kernel, ARGS, { by })
    expect([await tried(scopeOf(kernel), 'pay', ARGS), await tried(scopeOf(kernel), 'pay', ARGS)]).toEqual([
      'passed',
      'ERR_APPROVAL_REQUIRED',
    ])
  })

  test('does not get its approval back when the action is released', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS)
    const hold = await scopeOf(kernel).begin({ kind: 'tool', resource: 'pay', args: ARGS, worst: { calls: 1 } })
    await hold.release('not sent')
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('ERR_APPROVAL_REQUIRED')
  })

  test('keeps its approval when it only asks whether it would pass', async () => {
    const kernel = await opened()
    const action = { kind: 'tool', resource: 'pay', args: ARGS }
    expect(await scopeOf(kernel).decide(action)).toMatchObject({ code: 'ERR_APPROVAL_REQUIRED' })
    await approve(kernel, ARGS)
    for (const _ of times(3, () => 0)) expect(await scopeOf(kernel).decide(action)).toBeUndefined()
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('passed')
  })

  test('needs nothing to be held for its approval to be used up', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS)
    const action = { kind: 'tool', resource: 'pay', args: ARGS }
    await (await scopeOf(kernel).begin(action)).settle({})
    await expect(scopeOf(kernel).begin(action)).rejects.toMatchObject({ code: 'ERR_APPROVAL_REQUIRED' })
    expect(await approvals(kernel.store)).toBe(0)
  })
})

describe('an approval', () => {
  test.each<[string, Partial<Parameters<Kernel['approve']>[0]>, string, string, unknown]>([
    ['another agent', {}, 'cid', 'pay', ARGS],
    ['another tool', {}, 'ann', 'send', ARGS],
    ['other arguments', {}, 'ann', 'pay', { ...ARGS, usd: 8 }],
    ['one argument more', {}, 'ann', 'pay', { ...ARGS, note: '' }],
    ['one argument less', {}, 'ann', 'pay', { to: 'eve' }],
    ['no arguments', {}, 'ann', 'pay', undefined],
    ['the other order of agent and tool', { agent: 'pay', tool: 'ann' }, 'ann', 'pay', ARGS],
  ])('does not help %s', async (_, about, agent, tool, args) => {
    const kernel = await opened()
    await approve(kernel, ARGS, about)
    expect(await tried(scopeOf(kernel, agent), tool, args)).toBe('ERR_APPROVAL_REQUIRED')
    expect(await approvals(kernel.store)).toBe(1)
  })

  test('helps another task and another budget of the same agent: it is about the act', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS)
    expect(await tried(kernel.scope({ agent: 'ann', task: 'other', budget: 'acme' }), 'pay', ARGS)).toBe('passed')
  })

  test('of a tool that is denied does not help, and stays', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS, { agent: 'bob', tool: 'send' })
    expect(await tried(scopeOf(kernel, 'bob'), 'send', ARGS)).toBe('ERR_PERMISSION_DENIED')
    await approve(kernel, ARGS, { tool: 'unknown' })
    expect(await tried(scopeOf(kernel), 'unknown', ARGS)).toBe('ERR_PERMISSION_DENIED')
    expect(await approvals(kernel.store)).toBe(2)
  })

  test('is not used when the money is refused: both are one commit', async () => {
    const kernel = await opened()
    await approve(kernel, ARGS)
    expect(await tried(scopeOf(kernel, 'ann', 'poor'), 'pay', ARGS)).toBe('ERR_BUDGET_EXCEEDED')
    expect(await tried(scopeOf(kernel, 'ann', 'nowhere'), 'pay', ARGS)).toBe('ERR_UNKNOWN_BUDGET')
    expect(await approvals(kernel.store)).toBe(1)
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('passed')
    expect(await approvals(kernel.store)).toBe(0)
  })

  test('is used and paid for once when the store loses replies', async () => {
    const real = memoryStore()
    const faulty = faultyStore(real, [
      ...times(4, () => 'none' as const),
      'lose-reply',
      'lose-request',
      'contend',
      'lose-reply',
      'duplicate',
    ])
    const kernel = await opened({ store: faulty })
    const other = await opened({ store: real })
    await approve(other, ARGS)
    expect([await tried(scopeOf(kernel), 'pay', ARGS), await tried(scopeOf(kernel), 'pay', ARGS)]).toEqual([
      'passed',
      'ERR_APPROVAL_REQUIRED',
    ])
    expect(faulty.happened).toContain('lose-reply')
    expect(await other.budgets('acme')).toMatchObject([{ spent: 1, out: 0, balanced: true }])
  })

  test('ends by the clock of the store, whatever the clock of the process says', async () => {
    const [storeClock, clock] = [settableClock(), settableClock()]
    const kernel = await opened({ store: memoryStore({ clock: storeClock }), clock })
    await approve(kernel, ARGS, { expiresInMs: 1_000 })
    await approve(kernel, [], { expiresInMs: 1_000 })
    clock.set(clock.now() + 1_000_000)
    storeClock.set(storeClock.now() + 999)
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('passed')
    storeClock.set(storeClock.now() + 1)
    expect(await tried(scopeOf(kernel), 'pay', [])).toBe('ERR_APPROVAL_REQUIRED')
    storeClock.set(storeClock.now() - 1_000)
    expect(await tried(scopeOf(kernel), 'pay', [])).toBe('ERR_APPROVAL_REQUIRED')
  })

  test('that ends between the question and the commit does not help', async () => {
    const clock = settableClock()
    const store = memoryStore({ clock })
    const late: Store = {
      ...store,
      async apply(batches) {
        if (batches.some((batch) => batch.delete?.some((key) => key.startsWith('approval/')) === true)) clock.set(clock.now() + 1_000)
        return store.apply(batches)
      },
    }
    const kernel = await opened({ store: late, leaseTtlMs: 1_000_000 })
    await approve(kernel, ARGS, { expiresInMs: 1_000 })
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('ERR_APPROVAL_REQUIRED')
    expect(await kernel.budgets('acme')).toMatchObject([{ spent: 0, out: 0 }])
  })
})

describe('of fifty callers at once exactly one passes', () => {
  test.each<[string, () => Store]>([
    ['in memory', () => memoryStore()],
    ['in files', fileStoreOfTest],
  ])('%s', async (_, makeStore) => {
    const kernel = await opened({ store: makeStore() })
    for (const round of times(10, (index) => index)) {
      await approve(kernel, { round })
      const codes = await Promise.all(times(50, () => tried(scopeOf(kernel), 'pay', { round })))
      expect(codes.sort()).toEqual([...times(49, () => 'ERR_APPROVAL_REQUIRED'), 'passed'])
    }
    expect(await kernel.budgets('acme')).toMatchObject([{ spent: 10, out: 0 }])
  })

  test('in two processes on one store', async () => {
    const [calls, callers] = [20, 25]
    const store = fileStoreOfTest()
    const kernel = await opened({ store, budgets: { acme: { calls: 1_000_000 } } })
    for (const call of times(calls, (index) => index)) await approve(kernel, { call })
    const children = times(2, () => {
      const args = [join(import.meta.dirname, 'approver.ts'), store.dataDirectory!, String(calls), String(callers)]
      return spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    })
    const outputs = children.map(({ stdout }) => createInterface({ input: stdout })[Symbol.asyncIterator]())
    const said = await Promise.all(outputs.map(async (lines) => (await lines.next()).value as string))
    expect(said).toEqual(['ready', 'ready'])
    const ends = children.map((child) => once(child, 'exit'))
    for (const { stdin } of children) stdin.write('go\n')
    const passed = await Promise.all(outputs.map(async (lines) => JSON.parse((await lines.next()).value as string) as number[]))
    expect(times(calls, (call) => passed[0]![call]! + passed[1]![call]!)).toEqual(times(calls, () => 1))
    expect(passed.map((counts) => counts.length)).toEqual([calls, calls])
    expect(await Promise.all(ends)).toEqual(times(2, () => [0, null]))
    expect(await approvals(store)).toBe(0)
  })
})

test('any change of the arguments changes their hash and is refused; the same arguments in another order are not', async () => {
  const kernel = await opened()
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (args, other) => {
      const same = canonicalJson(args) === canonicalJson(other)
      await approve(kernel, args)
      expect(hashOf(args) === hashOf(other)).toBe(same)
      expect(await tried(scopeOf(kernel), 'pay', other)).toBe(same ? 'passed' : 'ERR_APPROVAL_REQUIRED')
      expect(await tried(scopeOf(kernel), 'pay', reordered(args))).toBe(same ? 'ERR_APPROVAL_REQUIRED' : 'passed')
    }),
    { numRuns: 500 },
  )
})

test.each<[string, unknown, unknown, boolean]>([
  ['a member that is undefined and none', { a: 1, b: undefined }, { a: 1 }, true],
  ['no arguments and null', undefined, null, true],
  ['0 and -0', [0], [-0], true],
  ['1 and 1.0', [1], [1.0], true],
  ['1 and "1"', [1], ['1'], false],
  ['null and no member', { a: null }, {}, false],
  ['an object and the text of it', { a: 1 }, '{"a":1}', false],
  ['an empty list and an empty object', [], {}, false],
  ['e with an accent in one character and in two', '\u00e9', 'e\u0301', false],
  ['lists in another order', [1, 2], [2, 1], false],
  ['a member called __proto__ and none', JSON.parse('{"__proto__":1}'), {}, false],
])('%s: the same arguments? %s %s %s', async (_, approved, wanted, same) => {
  const kernel = await opened()
  await approve(kernel, null, { argsHash: hashOf(JSON.parse(JSON.stringify(approved ?? null))) })
  expect(await tried(scopeOf(kernel), 'pay', wanted)).toBe(same ? 'passed' : 'ERR_APPROVAL_REQUIRED')
})

test.each(['github/create_issue', 'two\nlines', ' a', '*', '#', 'x'.repeat(1_000), '__proto__'])(
  'a tool may have any name that a model can call it by: %j is asked for, approved and run once',
  async (tool) => {
    const { kernel } = await open({ rules: [{ effect: 'ask', tool: '*' }], budgets: { acme: { calls: 10 } } })
    const scope = kernel.scope({ agent: 'ann', task: 'test', budget: 'acme' })
    const action = { kind: 'tool', resource: tool, args: ARGS }
    const refusal = await refusalOf(scope.begin(action))
    await kernel.approve({ agent: 'ann', tool, argsHash: refusal.details.argsHash!, by: 'boss', expiresInMs: 60_000 })
    expect((await refusalOf(scope.begin({ ...action, resource: `${tool}.` }))).code).toBe('ERR_APPROVAL_REQUIRED')
    await (await scope.begin(action)).settle({})
    expect((await refusalOf(scope.begin(action))).code).toBe('ERR_APPROVAL_REQUIRED')
  },
)

describe('approve', () => {
  const good = { agent: 'ann', tool: 'pay', argsHash: hashOf(ARGS), by: 'boss', expiresInMs: 1_000 }

  test.each<[string, Record<string, unknown>, typeof TypeError | typeof RangeError]>([
    ...['', undefined, null, 1, ['pay'], 'x'.repeat(1_025), '\ud800'].map((tool): [string, Record<string, unknown>, typeof TypeError] => [
      'approval.tool',
      { tool },
      TypeError,
    ]),
    ...['agent', 'by'].flatMap((field) =>
      ['', '*', 'a/b', ' a', '__proto__', undefined, null, 1, ['ann']].map((value): [string, Record<string, unknown>, typeof TypeError] => [
        `approval.${field}`,
        { [field]: value },
        TypeError,
      ]),
    ),
    ['approval.argsHash', { argsHash: '' }, TypeError],
    ['approval.argsHash', { argsHash: undefined }, TypeError],
    ['approval.argsHash', { argsHash: '*' }, TypeError],
    ['approval.argsHash', { argsHash: `${hashOf(ARGS)}=` }, TypeError],
    ['approval.argsHash', { argsHash: `${hashOf(ARGS)}\n` }, TypeError],
    ['approval.argsHash', { argsHash: hashOf(ARGS).slice(1) }, TypeError],
    ['approval.argsHash', { argsHash: `${hashOf(ARGS).slice(0, 42)}/` }, TypeError],
    ['approval.expiresInMs', { expiresInMs: undefined }, TypeError],
    ['approval.expiresInMs', { expiresInMs: '1000' }, TypeError],
    ['approval.expiresInMs', { expiresInMs: Number.NaN }, TypeError],
    ['approval.expiresInMs', { expiresInMs: 0.5 }, TypeError],
    ['approval.expiresInMs', { expiresInMs: -1 }, RangeError],
    ['approval.expiresInMs', { expiresInMs: Infinity }, RangeError],
    ['approval.expiresInMs', { expiresInMs: 31 * 24 * 3_600_000 }, RangeError],
  ])('refuses %s of %j, and writes nothing', async (field, change, kind) => {
    const kernel = await opened()
    const approving = kernel.approve({ ...good, ...change })
    await expect(approving).rejects.toBeInstanceOf(kind)
    await expect(approving).rejects.toThrow(`\`${field}\``)
    expect(await approvals(kernel.store)).toBe(0)
    expect(kernel.auditLines.filter((line) => line.includes('"kind":"approve"'))).toEqual([])
  })

  test('takes what is right, for weeks, and for no time at all it is over at once', async () => {
    const kernel = await opened()
    await kernel.approve({ ...good, expiresInMs: 24 * 24 * 3_600_000 })
    expect(await approvals(kernel.store)).toBe(1)
    await kernel.approve({ ...good, expiresInMs: 0 })
    expect(await tried(scopeOf(kernel), 'pay', ARGS)).toBe('ERR_APPROVAL_REQUIRED')
  })
})

function reordered(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(reordered)
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, member]) => [key, reordered(member)]),
  )
}
