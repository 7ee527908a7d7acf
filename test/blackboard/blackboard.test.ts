// The blackboard in one process: a change is made on what it was decided on, or not at all.

import { describe, expect, test } from 'vitest'
import type { Blackboard } from '../../src/blackboard/blackboard.ts'
import { entryKey } from '../../src/blackboard/entry.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { open, refusalOf } from '../budget/bench.ts'
import type { KernelOptions } from '../../src/kernel/open-kernel.ts'

/** Two agents on one board. */
async function twoAgents(options: Partial<KernelOptions> = {}) {
  const opened = await open({ budgets: { acme: { calls: 1_000 } }, ...options })
  const boardOf = (agent: string, namespace = 'shared'): Blackboard =>
    opened.kernel.blackboard(opened.kernel.scope({ agent, task: `task of ${agent}`, budget: 'acme' }), namespace)
  return { ...opened, boardOf, anna: boardOf('anna'), bela: boardOf('bela') }
}

describe('a change', () => {
  test('is proposed, validated and committed, and then read by everybody with who wrote it and its version', async () => {
    const { anna, bela } = await twoAgents()
    const id = await anna.propose({ set: { 'account:balance': 10_000 } })
    expect(await bela.read('account:balance')).toEqual({ key: 'account:balance', version: 0 })
    expect(await anna.validate(id)).toEqual([])
    const version = await anna.commit(id)
    expect(await bela.read('account:balance')).toEqual({
      key: 'account:balance',
      value: 10_000,
      version,
      agent: 'anna',
      task: 'task of anna',
      atMs: expect.any(Number),
    })
  })

  test('that was made while the kernel closed is told as made; after that nothing is proposed or given up', async () => {
    const { kernel, store, anna } = await twoAgents()
    const other = await anna.propose({ set: { b: 1 } })
    const id = await anna.propose({ set: { a: 1 } })
    const apply = store.apply.bind(store)
    let closing: Promise<void> | undefined
    store.apply = async (batches) => {
      if (batches.some(({ set }) => set?.some(({ key }) => key === entryKey('shared', 'a')))) closing ??= kernel.close()
      return apply(batches)
    }
    const version = await anna.commit(id)
    expect(closing).toBeDefined()
    expect(await anna.read('a')).toMatchObject({ value: 1, version })
    await closing
    for (const late of [() => anna.propose({ set: { c: 1 } }), () => anna.abort(other), () => anna.commit(other)])
      await expect(late()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  test('of several keys is made whole or not at all', async () => {
    const { anna, bela } = await twoAgents()
    await anna.commit(await anna.propose({ set: { a: 1, b: 1, c: 1 } }))
    const reads = await anna.readAll(['a', 'b', 'c'])
    const id = await anna.propose({ set: { a: 2, b: 2 }, delete: ['c'], reads })
    await bela.commit(await bela.propose({ set: { b: 3 }, overwrite: true }))
    await refusalOf(anna.commit(id))
    expect((await anna.list()).map(({ key, value }) => [key, value])).toEqual([
      ['a', 1],
      ['b', 3],
      ['c', 1],
    ])
    await anna.commit(await anna.propose({ set: { a: 2, b: 2 }, delete: ['c'], reads: await anna.readAll(['a', 'b', 'c']) }))
    expect((await anna.list()).map(({ key, value }) => [key, value])).toEqual([
      ['a', 2],
      ['b', 2],
    ])
  })

  test('builds on keys that it only read, too', async () => {
    const { anna, bela } = await twoAgents()
    await anna.commit(await anna.propose({ set: { rate: 2 } }))
    const id = await anna.propose({ set: { price: 200 }, reads: [await anna.read('rate')] })
    await bela.commit(await bela.propose({ set: { rate: 3 }, overwrite: true }))
    expect((await refusalOf(anna.commit(id))).code).toBe('ERR_CONFLICT')
  })

  test('that finds another version names the writer and both versions, and writes nothing', async () => {
    const { anna, bela } = await twoAgents()
    const first = await anna.commit(await anna.propose({ set: { balance: 10_000 } }))
    const [a, b] = [await anna.read('balance'), await bela.read('balance')]
    const fromAnna = await anna.propose({ set: { balance: 3_000 }, reads: [a] })
    const fromBela = await bela.propose({ set: { balance: 4_000 }, reads: [b] })
    expect([await anna.validate(fromAnna), await bela.validate(fromBela)]).toEqual([[], []])
    const second = await anna.commit(fromAnna)
    const conflict = { key: 'balance', readVersion: first, version: second, agent: 'anna', task: 'task of anna' }
    expect(await bela.validate(fromBela)).toEqual([conflict])
    const refusal = await refusalOf(bela.commit(fromBela))
    expect(refusal).toMatchObject({ code: 'ERR_CONFLICT', details: { conflict } })
    expect(refusal.message).toContain(`at version ${first} when this was decided, and is at version ${second}, written by \`anna\``)
    expect(refusal.toModelMessage()).not.toMatch(/anna|balance|\d/)
    expect(await bela.read('balance')).toMatchObject({ value: 3_000, version: second })
    // It cannot be tried again: what it was decided on will not come back.
    await expect(bela.commit(fromBela)).rejects.toMatchObject({ code: 'ERR_PROPOSAL_STATE' })
  })

  test('of a key that was not read is refused, unless it says that it writes over whatever is there', async () => {
    const { anna, bela } = await twoAgents()
    await anna.commit(await anna.propose({ set: { note: 'mine' } }))
    expect((await refusalOf(bela.propose({ set: { note: 'yours' } }))).details.conflict).toMatchObject({
      key: 'note',
      readVersion: 0,
      agent: 'anna',
    })
    await bela.commit(await bela.propose({ set: { note: 'yours' }, overwrite: true }))
    expect(await anna.read('note')).toMatchObject({ value: 'yours', agent: 'bela' })
  })

  test('of a key that was deleted and made again is a conflict: versions never come back', async () => {
    const { anna, bela } = await twoAgents()
    await anna.commit(await anna.propose({ set: { k: 1 } }))
    const old = await bela.read('k')
    await anna.commit(await anna.propose({ delete: ['k'], reads: [old] }))
    await anna.commit(await anna.propose({ set: { k: 1 } }))
    expect((await refusalOf(bela.propose({ set: { k: 2 }, reads: [old] }).then((id) => bela.commit(id)))).code).toBe('ERR_CONFLICT')
  })

  test('that the gates refuse writes nothing', async () => {
    const { anna, kernel, store } = await twoAgents({
      gates: [
        { name: 'quality', decide: ({ kind }) => (kind === 'write' ? { verdict: 'deny', reason: 'not like this' } : { verdict: 'allow' }) },
      ],
    })
    expect((await refusalOf(anna.propose({ set: { k: 1 } }).then((id) => anna.commit(id)))).message).toBe('not like this')
    expect((await store.list('bb/', { limit: 10 })).length).toBe(0)
    expect(kernel.auditLines.filter((record) => record.includes('"kind":"refused"'))).toHaveLength(1)
  })

  test('is in the trail: its intent with the hash of what it writes, and its outcome', async () => {
    const { anna, kernel } = await twoAgents()
    await anna.commit(await anna.propose({ set: { secret: 'a secret value' } }))
    const records = kernel.auditLines.map((record) => JSON.parse(record) as Record<string, unknown>)
    expect(records.filter(({ kind }) => kind === 'intent' || kind === 'outcome')).toMatchObject([
      { kind: 'intent', action: 'write', resource: 'shared', agent: 'anna', argsHash: expect.stringMatching(/^[\w-]{43}$/) },
      { kind: 'outcome', outcome: 'settled' },
    ])
    expect(kernel.auditLines.join()).not.toContain('a secret value')
  })
})

describe('a proposal', () => {
  test('of another agent can be validated by anybody, and committed or aborted by its own agent only', async () => {
    const { anna, bela } = await twoAgents()
    const id = await anna.propose({ set: { k: 1 } })
    expect(await bela.validate(id)).toEqual([])
    for (const attempt of [bela.commit(id), bela.abort(id)])
      expect((await refusalOf(attempt)).message).toContain('is of `anna`, not of `bela`')
    await anna.commit(id)
  })

  test('that is committed, aborted, expired, unknown or of another namespace says so', async () => {
    let nowMs = 1_000_000
    const { anna, boardOf } = await twoAgents({ store: memoryStore({ clock: { now: () => nowMs } }) })
    const committed = await anna.propose({ set: { k: 1 } })
    await anna.commit(committed)
    const aborted = await anna.propose({ set: { l: 1 } })
    await anna.abort(aborted)
    const elsewhere = await anna.propose({ set: { m: 1 } })
    const expired = await anna.propose({ set: { n: 1 } })
    const state = (promise: Promise<unknown>) => promise.catch((error: Error & { code: string }) => `${error.code}: ${error.message}`)
    expect(await state(anna.commit(committed))).toBe(`ERR_PROPOSAL_STATE: Proposal ${committed} is committed already.`)
    expect(await state(anna.validate(committed))).toContain('is committed already')
    expect(await state(anna.abort(committed))).toContain('is committed already')
    expect(await state(anna.commit(aborted))).toContain('is aborted already')
    expect(await state(boardOf('anna', 'other').commit(elsewhere))).toContain('belongs to the namespace `shared`, not to `other`')
    nowMs += 10 * 60_000
    expect(await state(anna.commit(expired))).toContain('has expired, or never was')
    expect(await state(anna.commit('x'.repeat(22)))).toContain('has expired, or never was')
    await expect(anna.commit('no id')).rejects.toThrow(TypeError)
    expect((await anna.list()).map(({ key }) => key)).toEqual(['k'])
  })

  test('that is aborted while its commit is under way is not made', async () => {
    let abort = async (): Promise<void> => undefined
    const { anna } = await twoAgents({
      gates: [
        {
          name: 'aborter',
          async decide() {
            await abort()
            return { verdict: 'allow' }
          },
        },
      ],
    })
    const id = await anna.propose({ set: { k: 1 } })
    abort = () => anna.abort(id)
    await expect(anna.commit(id)).rejects.toThrow('is aborted already')
    expect(await anna.read('k')).toEqual({ key: 'k', version: 0 })
  })

  test('that two kernels commit at once is committed, and whoever was late is told that it is', async () => {
    const store = memoryStore()
    const { anna } = await twoAgents({ store })
    const { anna: same } = await twoAgents({ store })
    for (let round = 0; round < 20; round++) {
      const id = await anna.propose({ set: { [`k${round}`]: 1 } })
      const results = await Promise.allSettled([anna.commit(id), same.commit(id)])
      const refused = results.flatMap((result) => (result.status === 'rejected' ? [(result.reason as Error).message] : []))
      expect(refused).toEqual([`Proposal ${id} is committed already.`])
      expect((await store.read([`proposal/${id}`]))[0]?.value).toMatchObject({ state: 'committed' })
    }
  })

  test('that is validated while it is committed is committed all the same', async () => {
    const store = memoryStore()
    const { anna, bela } = await twoAgents({ store })
    for (let round = 0; round < 20; round++) {
      const id = await anna.propose({ set: { [`k${round}`]: 1 } })
      const [committed] = await Promise.all([anna.commit(id), bela.validate(id).catch(() => [])])
      expect(committed).toBeGreaterThan(0)
    }
  })

  test('of 600 KB can be committed, too', async () => {
    const { anna } = await twoAgents()
    await anna.commit(await anna.propose({ set: { large: 'x'.repeat(600_000) } }))
    expect(await anna.history('large')).toHaveLength(1)
  })

  test('that is committed twice at once is committed once', async () => {
    const { anna, kernel } = await twoAgents()
    const id = await anna.propose({ set: { k: 1 } })
    const results = await Promise.allSettled([anna.commit(id), anna.commit(id), anna.commit(id)])
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(await anna.history('k')).toHaveLength(1)
    expect(kernel.auditLines.filter((record) => record.includes('"outcome":"settled"'))).toHaveLength(1)
  })

  test('whose commit lost its reply is made once, and committing again tells what became of it', async () => {
    const memory = memoryStore()
    // The budget is declared before the bad luck begins.
    await open({ store: memory, budgets: { acme: { calls: 1_000 } } })
    const store = faultyStore(memory, { seed: 7, odds: { 'lose-reply': 0.2, 'lose-request': 0.1, contend: 0.1 } })
    const { kernel } = await open({ store })
    const anna = kernel.blackboard(kernel.scope({ agent: 'anna', task: 'task', budget: 'acme' }))
    const until = async <T>(fn: () => Promise<T>): Promise<T> => {
      for (;;) {
        try {
          return await fn()
        } catch (error) {
          if ((error as { code?: string }).code !== 'ERR_STORE') throw error
        }
      }
    }
    for (let index = 0; index < 40; index++) {
      const id = await until(() => anna.propose({ set: { [`k${index}`]: 1 } }))
      const answer = await until(() => anna.commit(id)).catch((error: Error) => error.message)
      expect([expect.any(Number), `Proposal ${id} is committed already.`]).toContainEqual(answer)
      expect(await anna.history(`k${index}`)).toHaveLength(1)
    }
    expect(store.happened).toContain('lose-reply')
  })

  test.each([
    ['nothing to write', {}, 'must write something'],
    ['a value that is not JSON', { set: { k: undefined } }, '`set.k` is not JSON'],
    ['a cycle', { set: { k: cycle() } }, 'not JSON'],
    ['-0', { set: { k: -0 } }, '-0'],
    ['a key that is written twice', { set: { k: 1 }, delete: ['k'] }, 'write a key once'],
    ['an empty key', { set: { '': 1 } }, 'it is empty'],
    ['a key that climbs', { set: { 'a/../b': 1 } }, '`..` is reserved'],
    ['a key with a line break', { set: { 'a\nb': 1 } }, 'control character'],
    ['a key nine levels deep', { set: { 'a/b/c/d/e/f/g/h/i': 1 } }, 'at most 8 levels deep'],
    ['a version that is none', { set: { k: 1 }, reads: [{ key: 'k', version: -1 }] }, 'reads.k.version'],
    ['201 keys', { set: Object.fromEntries(Array.from({ length: 201 }, (_, index) => [`k${index}`, 1])) }, '200 keys'],
    ['a time to live of 0', { set: { k: 1 }, ttlMs: 0 }, 'ttlMs'],
    ['a time to live that is no number', { set: { k: 1 }, ttlMs: Number.NaN }, 'ttlMs'],
    ['2 MB', { set: { k: 'x'.repeat(2_000_000) } }, 'bytes'],
  ])('with %s is refused, and leaves nothing', async (_, proposal, message) => {
    const { anna, store } = await twoAgents()
    await expect(anna.propose(proposal as never)).rejects.toThrow(message)
    expect(await store.list('proposal/', { limit: 10 })).toEqual([])
  })
})

describe('a transaction', () => {
  test('of many agents at once on one key loses no write: it decides again on fresh values', async () => {
    const { boardOf, anna } = await twoAgents()
    await anna.commit(await anna.propose({ set: { count: 0 } }))
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const board = boardOf(`agent-${index}`)
        for (let round = 0; round < 5; round++) {
          await board.transact(async (tx) => tx.write('count', Number(await tx.read('count')) + 1), { attempts: 1_000 })
        }
      }),
    )
    expect(await anna.read('count')).toMatchObject({ value: 50 })
  })

  test('control: the same without the versions that were read loses writes', async () => {
    const { boardOf, anna } = await twoAgents()
    await anna.commit(await anna.propose({ set: { count: 0 } }))
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const board = boardOf(`agent-${index}`)
        const entry = await board.read('count')
        await board
          .commit(await board.propose({ set: { count: Number('value' in entry ? entry.value : 0) + 1 }, overwrite: true }))
          .catch(() => 'lost the race')
      }),
    )
    expect(((await anna.read('count')) as { value: number }).value).toBeLessThan(10)
  })

  test('reads its own writes, reads a key once, and gives up after its attempts', async () => {
    const { anna, bela } = await twoAgents()
    let runs = 0
    const attempt = anna.transact(
      async (tx) => {
        runs += 1
        tx.write('own', runs)
        expect(await tx.read('own')).toBe(runs)
        const before = await tx.read('k')
        await bela.commit(await bela.propose({ set: { k: runs }, overwrite: true }))
        expect(await tx.read('k')).toEqual(before)
      },
      { attempts: 3 },
    )
    expect((await refusalOf(attempt)).code).toBe('ERR_CONFLICT')
    expect(runs).toBe(3)
    expect(await anna.read('own')).toEqual({ key: 'own', version: 0 })
  })

  test('that throws, or writes nothing, changes nothing', async () => {
    const { anna, store } = await twoAgents()
    await expect(
      anna.transact(async (tx) => {
        tx.write('k', 1)
        throw new Error('mine')
      }),
    ).rejects.toThrow('mine')
    expect(await anna.transact(async (tx) => tx.read('k'))).toBeUndefined()
    expect(await store.list('bb/', { limit: 10 })).toEqual([])
  })
})

describe('an entry', () => {
  test('expires by the clock of the store, and is absent then', async () => {
    let nowMs = 1_000_000
    const { anna } = await twoAgents({ store: memoryStore({ clock: { now: () => nowMs } }) })
    await anna.commit(await anna.propose({ set: { k: 1 }, ttlMs: 500 }))
    expect(await anna.read('k')).toMatchObject({ value: 1, expiresAtMs: 1_000_500 })
    nowMs += 500
    expect(await anna.read('k')).toEqual({ key: 'k', version: 0 })
    expect(await anna.list()).toEqual([])
    await anna.commit(await anna.propose({ set: { k: 2 } }))
  })

  test('remembers its last writers and hashes, the newest sixteen before it', async () => {
    const { anna, bela } = await twoAgents()
    for (let value = 0; value < 20; value++) {
      const board = value % 2 === 0 ? anna : bela
      await board.commit(await board.propose({ set: { k: value }, overwrite: true }))
    }
    const history = await anna.history('k')
    expect(history).toHaveLength(17)
    expect(history.map(({ agent }) => agent).slice(0, 3)).toEqual(['bela', 'anna', 'bela'])
    expect(new Set(history.map(({ hash }) => hash)).size).toBe(17)
    expect(history.map(({ version }) => version)).toEqual(history.map(({ version }) => version).toSorted((a, b) => b - a))
  })

  test('is seen by who watches its prefix', async () => {
    const { anna, bela } = await twoAgents()
    const woken = new Promise<unknown>((resolve) => void bela.watch('jobs/', () => resolve('woken')))
    await anna.commit(await anna.propose({ set: { 'jobs/1': 'new' } }))
    expect(await woken).toBe('woken')
  })
})

describe('a namespace', () => {
  const namespaces = { accounts: { readers: ['auditor'], writers: ['teller'] }, open: {} }

  test('is read by its readers and writers, and written by its writers', async () => {
    const { boardOf } = await twoAgents({ namespaces })
    const teller = boardOf('teller', 'accounts')
    await teller.commit(await teller.propose({ set: { balance: 1 } }))
    expect(await boardOf('auditor', 'accounts').read('balance')).toMatchObject({ value: 1 })
    expect((await refusalOf(boardOf('auditor', 'accounts').propose({ set: { balance: 2 }, overwrite: true }))).code).toBe(
      'ERR_PERMISSION_DENIED',
    )
    const stranger = boardOf('stranger', 'accounts')
    for (const attempt of [stranger.read('balance'), stranger.list(), stranger.history('balance'), stranger.propose({ set: { x: 1 } })])
      expect((await refusalOf(attempt)).message).toMatch(/`stranger` may not (read|write) the namespace `accounts`/)
    expect(() => stranger.watch('', () => undefined)).toThrow('may not read')
    await boardOf('stranger', 'open').propose({ set: { x: 1 } })
  })

  test('that is not declared does not exist, once any is', async () => {
    const { anna } = await twoAgents({ namespaces })
    expect((await refusalOf(anna.read('k'))).message).toBe('There is no namespace `shared` on the blackboard.')
  })

  test('has keys of its own', async () => {
    const { anna, boardOf } = await twoAgents()
    const other = boardOf('anna', 'shared2')
    await anna.commit(await anna.propose({ set: { k: 1 } }))
    expect(await other.read('k')).toEqual({ key: 'k', version: 0 })
    expect(await other.list()).toEqual([])
  })

  test('is not enforced in observe mode, and a write that would be refused is reported', async () => {
    const { anna, events } = await twoAgents({ namespaces, mode: 'observe' })
    await anna.commit(await anna.propose({ set: { k: 1 } }))
    expect(await anna.read('k')).toMatchObject({ value: 1 })
    expect(events.filter(({ type }) => type === 'would-refuse')).toHaveLength(1)
  })

  test.each([
    ['a Map', new Map(), 'plain object'],
    ['readers only', { readers: ['a'] }, 'has readers and no writers'],
    ['an unknown field', { writer: ['a'] }, '`namespaces.n.writer` is not a field'],
    ['an agent that is no list', { writers: 'a' }, 'must be a list'],
    ['an agent that is no name', { writers: ['a\nb'] }, 'control character'],
  ])('declared with %s is refused', async (_, access, message) => {
    await expect(open({ namespaces: { n: access } as never })).rejects.toThrow(message)
  })
})

function cycle(): unknown {
  const value: Record<string, unknown> = {}
  value['self'] = value
  return value
}
