// What is proposed is checked before any gate sees it; and one `begin` is one commit, with the money and the head of
// the audit chain in one group.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fileStore, memoryStore, openKernel, type Kernel } from '../../src/index.ts'

let kernel: Kernel
let directory: string

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-actions-'))
  kernel = await openKernel({ store: fileStore(directory), budgets: { acme: { usd: 1, calls: 10 } } })
})
afterEach(async () => {
  await kernel.close()
  await kernel.store.close()
  rmSync(directory, { recursive: true, force: true })
})

const lines = (): readonly string[] => readFileSync(join(directory, 'store/g-000000000001'), 'utf8').trimEnd().split('\n')

describe('an action', () => {
  test.each(['', '\ud800', 'x'.repeat(1_025)])(
    'with a resource that is no text of a sensible length is a TypeError: case %#',
    async (resource) => {
      const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
      await expect(scope.begin({ kind: 'tool', resource })).rejects.toThrow(/action\.resource/)
      expect((await kernel.budgets()).every(({ out }) => out === 0)).toBe(true)
    },
  )

  test('may have any text as its resource: models invent the names of tools', async () => {
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const hold = await scope.begin({ kind: 'tool', resource: `it's "odd" \\ 🧯`, worst: { calls: 1 } })
    await hold.settle({ calls: 1 })
    expect(hold.state).toBe('settled')
  })

  test('is one line of the journal: its money at every level, its hold and the head of the chain', async () => {
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    await (await scope.begin({ kind: 'tool', resource: 'first', worst: { calls: 1 } })).release('registers the process')
    const before = lines().length
    const hold = await scope.begin({ kind: 'tool', resource: 'search', worst: { usd: 5, calls: 1 } })
    const added = lines().slice(before)
    expect(added).toHaveLength(1)
    const { b: batches } = JSON.parse(added[0]!) as { b: { o: [string, string, unknown][] }[] }
    const keys = batches.map(({ o }) => o.map(([operation, key]) => `${operation} ${key.split('/').slice(0, 2).join('/')}`))
    expect(keys[0]).toEqual(expect.arrayContaining(['a free/usd', 'a free/calls', 'a out/usd', 'a out/calls', `s hold/${kernel.boot}`]))
    expect(keys[1]).toEqual(expect.arrayContaining([`s head/${kernel.boot}`]))
    await hold.settle({ usd: 5, calls: 1 })
    expect(lines()).toHaveLength(before + 2)
  })

  test('whose caller left while it was asked about does not run, and costs nothing', async () => {
    const scope = kernel.scope({ agent: 'a', task: 't', budget: 'acme' })
    const controller = new AbortController()
    let ran = false
    const running = scope.run(
      { kind: 'tool', resource: 'send', worst: { calls: 1 } },
      async () => void (ran = true),
      undefined,
      undefined,
      { signal: controller.signal },
    )
    // Its money is being set aside: nobody looks at the signal any more before it is there.
    await Promise.resolve()
    controller.abort(new Error('the caller left'))
    await expect(running).rejects.toThrow('the caller left')
    expect(ran).toBe(false)
    await kernel.flush()
    expect((await kernel.budgets('acme')).map(({ spent, out }) => [spent, out])).toEqual([
      [0, 0],
      [0, 0],
    ])
  })

  test('an approval may last thirty days, and not a millisecond longer', async () => {
    const approval = { agent: 'a', tool: 'send', argsHash: 'h'.repeat(43), by: 'me' }
    await kernel.approve({ ...approval, expiresInMs: 30 * 24 * 3_600_000 })
    await expect(kernel.approve({ ...approval, expiresInMs: 30 * 24 * 3_600_000 + 1 })).rejects.toThrow(RangeError)
  })
})

test('a kernel on a memory store leaves nothing on disk', async () => {
  await using other = await openKernel({ store: memoryStore(), budgets: { acme: { usd: 1 } } })
  expect(other.auditLines.length).toBeGreaterThan(0)
})
