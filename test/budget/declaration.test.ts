// What a declaration of budgets may say, and what it does to a store that has them already. Proves that amounts
// and names are taken exactly or refused by name, and that two processes can never mean different limits by the
// same revision.

import { describe, expect, test } from 'vitest'
import { line, money, open, refusalOf, take } from './bench.ts'
import { openKernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

type Budgets = NonNullable<KernelOptions['budgets']>

/** Opens a kernel with these budgets on a fresh store; how that fails, and that it wrote nothing. */
async function failure(budgets: Budgets): Promise<Error> {
  const store = memoryStore()
  const error: unknown = await openKernel({ store, budgets }).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof Error)) throw new TypeError('Expected the kernel not to open.', { cause: error })
  expect(await money(store)).toEqual({})
  return error
}

describe('a slip', () => {
  test.each<[object, RegExp]>([
    [{ usd: 1, revison: 2 }, /revison`: did you mean revision\?/],
    [{ usd: 1, warnat: 0.8 }, /did you mean warnat/],
    [{ usd: 1, window: [] }, /write `windows`/],
    [{ usd: 1, windos: 3 }, /did you mean windows/],
    [{ usd: 1, windows: [{ per: 'day', roling: 6, usd: 1 }] }, /roling`: did you mean rolling/],
    [{ usd: 1, windows: [null] }, /must be a window/],
    [{ usd: 1, windows: ['day'] }, /must be a window/],
  ])('such as %j is refused', async (declaration, message) => {
    await expect(open({ budgets: { acme: declaration as never } })).rejects.toThrow(message)
  })

  test('is none where a counter is called like nothing else', async () => {
    const { kernel } = await open({ budgets: { acme: { emails: 1, rolls: 2, reviews: 3, wraps: 4 } } })
    expect((await kernel.budgets()).length).toBe(4)
  })
})

describe('a declaration', () => {
  test.each<[string, Budgets, string]>([
    ['without its parent', { acme: { tokens: 1 }, 'other/child': { tokens: 1 } }, 'declare `other` too'],
    ['of a shape without its parent', { acme: { tokens: 1 }, 'acme/*/x': { tokens: 1 } }, 'declare `acme/*` too'],
  ])('%s is refused with the parent to declare', async (_, budgets, sentence) => {
    const error = await failure(budgets)
    expect(error).toMatchObject({ code: 'ERR_BUDGET_DECLARATION' })
    expect(error.message).toContain(sentence)
  })

  test.each<[string, Budgets, string]>([
    ['that limits nothing', { acme: {} }, '`budgets[acme]` limits nothing'],
    ['that limits nothing but has a revision', { acme: { revision: 2 } }, '`budgets[acme]` limits nothing'],
    ['whose limits are undefined', { acme: { usd: undefined as never } }, '`budgets[acme]` limits nothing'],
    ['whose first name is `*`', { '*': { tokens: 1 } }, 'the first name of a path cannot be `*`'],
    ['with a window', { acme: { usd: 1, window: 'day' } }, '`budgets[acme].window`: write `windows`, a list'],
  ])('%s is a TypeError that says so', async (_, budgets, sentence) => {
    const error = await failure(budgets)
    expect(error).toBeInstanceOf(TypeError)
    expect(error.message).toContain(sentence)
  })

  test('of 30 dimensions on each of eight levels can be taken from, settled and charged; of 31 it is a RangeError', async () => {
    const counters = (count: number, amount: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`c${index}`, amount]))
    expect(await failure({ acme: { ...counters(31, 10), revision: 2 } })).toMatchObject({
      name: 'RangeError',
      message: '`budgets[acme]` limits 31 dimensions; a budget and its windows have at most 30.',
    })
    const path = 'a/b/c/d/e/f/g/h'
    const levels = path.split('/').map((__, index, names) => ['a', ...names.slice(1, index + 1).fill('*')].join('/'))
    const { kernel, store } = await open({ budgets: Object.fromEntries(levels.map((level) => [level, counters(30, 10)])) })
    const holds = [await take(kernel, path, counters(30, 2)), await take(kernel, path, counters(30, 2))]
    await holds[0]!.settle(counters(30, 3))
    await holds[1]!.charge('left')
    await holds[1]!.settle(counters(30, 1))
    expect(await line(store, path, 'c29')).toMatchObject({ spent: 4, free: 6, out: 0, assumed: 0 })
  })

  test('of nothing opens what the store has', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 5 } } })
    const { kernel } = await open({ store, budgets: {} })
    await take(kernel, 'acme', { tokens: 5 })
    expect(await line(store, 'acme')).toMatchObject({ free: 0 })
  })

  test('of a child before its parent is put in order', async () => {
    const { store } = await open({ budgets: { 'acme/a/b': { tokens: 1 }, 'acme/a': { tokens: 2 }, acme: { tokens: 3 } } })
    expect(await line(store, 'acme/a/b')).toMatchObject({ limit: 1, free: 1 })
  })
})

describe('an amount', () => {
  const MOST_USD = '9007199.254740991'

  test.each<[string, number | string, number]>([
    ['a number', 0.5, 500_000_000],
    ['a string', '0.50', 500_000_000],
    ['one nano', '0.000000001', 1],
    ['one nano as a number', 1e-9, 1],
    ['more zeros than decimals', '0.1000000000000', 100_000_000],
    ['the most that a counter can hold', MOST_USD, Number.MAX_SAFE_INTEGER],
    ['nothing', 0, 0],
    ['0.1 + 0.2 as it is written', '0.3', 300_000_000],
  ])('of usd as %s (%s) is taken exactly', async (_, usd, nano) => {
    const { store } = await open({ budgets: { acme: { usd } } })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ limit: nano, free: nano })
  })

  test.each<[unknown, typeof TypeError]>([
    [Number.NaN, TypeError],
    [Infinity, RangeError],
    [-1, RangeError],
    ['-1', TypeError],
    ['0.1234567891', RangeError],
    [0.1 + 0.2, RangeError],
    ['1e3', TypeError],
    ['9007199.254740992', RangeError],
    [1e22, RangeError],
    ['', TypeError],
    [' 1', TypeError],
    ['1,5', TypeError],
    ['0x10', TypeError],
    ['٣', TypeError],
    [null, TypeError],
    [true, TypeError],
    [{}, TypeError],
    [[1], TypeError],
  ])('of usd that is %o is refused by name', async (usd, kind) => {
    const error = await failure({ acme: { usd: usd as never } })
    expect(error).toBeInstanceOf(kind)
    expect(error.message).toContain('`budgets[acme].usd`')
  })

  test.each<[unknown, typeof TypeError]>([
    [Number.NaN, TypeError],
    [Infinity, RangeError],
    [-1, RangeError],
    [0.5, TypeError],
    [2 ** 53, RangeError],
    ['5', TypeError],
    [null, TypeError],
    [{}, TypeError],
  ])('of a counter, or a revision, that is %o is refused by name', async (value, kind) => {
    for (const field of ['tokens', 'calls', 'searches', 'revision']) {
      const error = await failure({ acme: { usd: 1, [field]: value as never } })
      expect(error).toBeInstanceOf(kind)
      expect(error.message).toContain(`\`budgets[acme].${field}\``)
    }
  })

  test('at the end of what a counter can hold is held and given back to the last unit; one more is a RangeError', async () => {
    const { kernel, store } = await open({ budgets: { acme: { usd: MOST_USD } } })
    await expect(take(kernel, 'acme', { usd: 2 ** 53 })).rejects.toThrow(/usd/)
    const hold = await take(kernel, 'acme', { usd: Number.MAX_SAFE_INTEGER })
    expect(await refusalOf(take(kernel, 'acme', { usd: 1 }))).toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    await hold.settle({ usd: Number.MAX_SAFE_INTEGER - 1 })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ spent: Number.MAX_SAFE_INTEGER - 1, free: 1 })
  })

  test.each([{ tokens: Number.NaN }, { tokens: Infinity }, { tokens: -1 }, { tokens: 0.5 }, { tokens: 2 ** 53 }, { tokens: '3' as never }])(
    'of an action that is %j is refused before anything is written, wherever it stands',
    async (wrong) => {
      const { kernel, store } = await open({ budgets: { acme: { tokens: 10 } } })
      const before = await money(store)
      const output = { tokens: 1, minTokens: 1, perToken: { tokens: 1 } }
      await expect(take(kernel, 'acme', wrong)).rejects.toThrow(/`action\.worst\.tokens`/)
      await expect(take(kernel, 'acme', {}, { smallest: wrong })).rejects.toThrow(/`action\.smallest\.tokens`/)
      await expect(take(kernel, 'acme', {}, { output: { ...output, perToken: wrong } })).rejects.toThrow(
        /`action\.output\.perToken\.tokens`/,
      )
      await expect(take(kernel, 'acme', { tokens: 9 }, { output: { ...output, ...wrong } })).rejects.toThrow(/`action\.output\.tokens`/)
      await expect(take(kernel, 'acme', {}, { output: { ...output, minTokens: wrong.tokens } })).rejects.toThrow(
        /`action\.output\.minTokens`/,
      )
      expect(await money(store)).toEqual(before)
    },
  )
})

describe('a name', () => {
  const LONGEST = 'n'.repeat(128)

  test.each(['🦊', 'Ünïcödé', 'a b', 'constructor', '...', 'a.b', 'usd', LONGEST, 'ﬁ', 'ไทย'])(
    '%j names a budget and a counter',
    async (name) => {
      const { kernel, store } = await open({ budgets: { [name]: { [name]: 5, usd: 1 }, [`${name}/*`]: { usd: 1 } } })
      await take(kernel, name, name === 'usd' ? {} : { [name]: 5 })
      await take(kernel, `${name}/${name}`, { usd: 7 })
      expect(await line(store, `${name}/${name}`, 'usd')).toMatchObject({ out: 7 })
    },
  )

  test.each([
    ['a newline', 'a\nb'],
    ['..', '..'],
    ['.', '.'],
    ['NUL', 'a\0b'],
    ['__proto__', '__proto__'],
    ['10,000 characters', 'n'.repeat(10_000)],
    ['129 characters', 'n'.repeat(129)],
    ['half of a surrogate pair', 'a\ud800'],
    ['a space in front', ' a'],
    ['a space behind', 'a '],
    ['a no-break space in front', '\u00a0a'],
    ['what is not NFC', 'e\u0301'],
    ['a line separator', 'a\u2028b'],
    ['a star in it', 'a*'],
    ['nothing', ''],
  ])('with %s names neither a budget, nor a counter, nor a scope, nor an agent', async (_, name) => {
    for (const budgets of [
      { [name]: { usd: 1 } },
      { acme: { usd: 1 }, [`acme/${name}`]: { usd: 1 } },
      { acme: JSON.parse(`{${JSON.stringify(name)}:1}`) as Budgets[string] },
    ] as readonly Budgets[])
      expect((await failure(budgets)).message).toMatch(/budgets\[/)
    const { kernel } = await open({ budgets: { acme: { usd: 1 }, 'acme/*': { usd: 1 } } })
    for (const budget of [name, `acme/${name}`]) expect(() => kernel.scope({ agent: 'a', task: 't', budget })).toThrow(/`budget`/)
    expect(() => kernel.scope({ agent: name, task: 't', budget: 'acme' })).toThrow(/`agent`/)
    expect(() => kernel.scope({ agent: 'a', task: name, budget: 'acme' })).toThrow(/`task`/)
  })

  test('at the ninth level is one too many', async () => {
    const path = 'a/b/c/d/e/f/g/h'
    const levels = path.split('/').map((__, index, names) => names.slice(0, index + 1).join('/'))
    const budgets = Object.fromEntries(levels.map((level) => [level, { tokens: 1 }]))
    const { kernel } = await open({ budgets })
    expect((await take(kernel, path, { tokens: 1 })).state).toBe('held')
    expect(() => kernel.scope({ agent: 'a', task: 't', budget: `${path}/i` })).toThrow(RangeError)
    expect((await failure({ ...budgets, [`${path}/i`]: { tokens: 1 } })).message).toContain('at most 8 levels deep')
  })
})

const declare = (tokens: number, revision?: number): Budgets => ({ acme: { tokens, ...(revision === undefined ? {} : { revision }) } })

describe('a revision', () => {
  test('that is the same with the same limits opens', async () => {
    const { store } = await open({ budgets: { acme: { tokens: 10, usd: '0.50' } } })
    await open({ store, budgets: { acme: { usd: 0.5, tokens: 10, revision: 1 } } })
    expect(await line(store, 'acme', 'usd')).toMatchObject({ limit: 500_000_000 })
  })

  test.each<[string, Budgets]>([
    ['another limit', { acme: { tokens: 11 } }],
    ['one dimension more', { acme: { tokens: 10, calls: 1 } }],
  ])('that is the same with %s is an error that shows both, and changes nothing', async (_, budgets) => {
    const { store } = await open({ budgets: declare(10) })
    const before = await money(store)
    const error = await openKernel({ store, budgets }).catch((reason: unknown) => reason as Error)
    expect(error).toMatchObject({
      code: 'ERR_BUDGET_DECLARATION',
      message: expect.stringMatching(/declared as .*tokens 1[01].*the store has tokens 10 .*raise the revision to 2/),
    })
    expect(await money(store)).toEqual(before)
  })

  test('that is higher raises the limit, and what is held and spent stays as it is', async () => {
    const { kernel, store } = await open({ budgets: declare(10) })
    await (await take(kernel, 'acme', { tokens: 3 })).settle({ tokens: 2 })
    await take(kernel, 'acme', { tokens: 8 })
    await open({ store, budgets: declare(15, 2) })
    expect(await line(store, 'acme')).toMatchObject({ limit: 15, spent: 2, out: 8, free: 5 })
    await take(kernel, 'acme', { tokens: 5 })
  })

  test('that is higher lowers the limit as far as there is free money, and not one unit further', async () => {
    const { kernel, store } = await open({ budgets: declare(10) })
    const hold = await take(kernel, 'acme', { tokens: 4 })
    const before = await money(store)
    const error = await openKernel({ store, budgets: declare(3, 2) }).catch((reason: unknown) => reason as Error)
    expect(error).toMatchObject({
      code: 'ERR_BUDGET_DECLARATION',
      message: expect.stringContaining('lowers a limit by more than is free (free/tokens/acme has 6)'),
    })
    expect(await money(store)).toEqual(before)
    await open({ store, budgets: declare(4, 2) })
    expect(await line(store, 'acme')).toMatchObject({ limit: 4, out: 4, free: 0 })
    await hold.release('done')
    expect(await line(store, 'acme')).toMatchObject({ limit: 4, out: 0, free: 4 })
  })

  test('that is higher can add a dimension, and cannot drop one', async () => {
    const { store } = await open({ budgets: declare(10) })
    await open({ store, budgets: { acme: { tokens: 10, calls: 3, revision: 2 } } })
    expect(await line(store, 'acme', 'calls')).toMatchObject({ limit: 3, free: 3 })
    await expect(openKernel({ store, budgets: { acme: { calls: 3, revision: 3 } } })).rejects.toThrow(/no longer limits `tokens`/)
  })

  test.each(['constructor', 'toString', 'hasOwnProperty'])('that is higher can add a counter named `%s`', async (counter) => {
    const { kernel, store } = await open({ budgets: declare(10) })
    await open({ store, budgets: { acme: { tokens: 10, [counter]: 3, revision: 2 } } })
    expect(await line(store, 'acme', counter)).toMatchObject({ limit: 3, free: 3 })
    await expect(openKernel({ store, budgets: { acme: { tokens: 10, revision: 3 } } })).rejects.toThrow(`no longer limits \`${counter}\``)
    await take(kernel, 'acme', { [counter]: 3 })
  })

  test('that is lower opens the budget as it stands, and says so', async () => {
    const { store } = await open({ budgets: declare(10, 5) })
    const { events } = await open({ store, budgets: declare(1_000, 4) })
    expect(await line(store, 'acme')).toMatchObject({ limit: 10 })
    expect(events).toEqual([{ type: 'revision-ignored', message: expect.stringContaining('revision 4; the store has 5') }])
  })

  test('that two processes raise at once is applied once', async () => {
    const { store } = await open({ budgets: declare(10) })
    await Promise.all(Array.from({ length: 8 }, () => open({ store, budgets: declare(20, 2) })))
    expect(await line(store, 'acme')).toMatchObject({ limit: 20, free: 20 })
  })

  test('of a budget whose record was lost while its counters are there is ERR_DAMAGE', async () => {
    const { store } = await open({ budgets: declare(10) })
    await store.apply([{ delete: ['budget/acme'] }])
    await expect(openKernel({ store, budgets: declare(10) })).rejects.toMatchObject({
      code: 'ERR_DAMAGE',
      message: expect.stringContaining('free/tokens/acme'),
    })
  })

  test('that changes at every look that a report takes does not make the ledger seem out of balance', async () => {
    const { store } = await open({ budgets: declare(10) })
    let revision = 1
    const raise = async (): Promise<void> => void (await open({ store, budgets: declare(10 * ++revision, revision) }))
    const changing: Store = {
      ...store,
      async list(prefix, range) {
        const page = await store.list(prefix, range)
        await raise()
        return page
      },
      async read(wanted) {
        const entries = await store.read(wanted)
        await raise()
        return entries
      },
    }
    expect((await line(changing, 'acme')).limit).toBeGreaterThan(10)
    expect(revision).toBeGreaterThan(2)
  })
})
