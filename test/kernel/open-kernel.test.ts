// Opening a kernel, and what it owes its caller from then on. Proves that options are checked before anything is
// written, that a store which has lost what it acknowledged is not opened, and that who has paid for an answer keeps
// it while the store is away: the outcome is on disk first, and reaches the store once.

import { cpSync, existsSync, readFileSync, readdirSync, readlinkSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { line, open, take } from '../budget/bench.ts'
import { openStore, segmentOf, temporaryDirectory } from '../stores/journal.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { openKernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

const BUDGETS = { acme: { tokens: 100 } }

/** The records of a chain file. */
function records(directory: string, boot: string): readonly Record<string, unknown>[] {
  const text = readFileSync(join(directory, 'chains', `${boot}.jsonl`), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((one) => JSON.parse(one) as Record<string, unknown>)
}

/** Files below a directory that this process has open. */
function openFiles(directory: string): readonly string[] {
  return readdirSync('/proc/self/fd').flatMap((descriptor) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${descriptor}`)
      return target.startsWith(directory) ? [target] : []
    } catch (error) {
      // The descriptor of this very listing is gone by now.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  })
}

describe('an option', () => {
  test.each<[string, object, typeof TypeError]>([
    ['mode', { mode: 'off' }, TypeError],
    ['audit', { audit: 'disk' }, TypeError],
    ['waitMs', { waitMs: -1 }, RangeError],
    ['waitMs', { waitMs: Number.NaN }, TypeError],
    ['waitMs', { waitMs: Infinity }, RangeError],
    ['waitMs', { waitMs: 2 ** 31 }, RangeError],
    ['holdDeadlineMs', { holdDeadlineMs: 1.5 }, TypeError],
    ['holdDeadlineMs', { holdDeadlineMs: '5' }, TypeError],
    ['leaseTtlMs', { leaseTtlMs: 0 }, RangeError],
    ['leaseTtlMs', { leaseTtlMs: 99 }, RangeError],
    ['leaseTtlMs', { leaseTtlMs: null }, TypeError],
    ['gates[1]', { gates: [{ name: 'good', decide: () => ({ verdict: 'allow' }) }, { name: 'bad' }] }, TypeError],
    ['rules[0].effect', { rules: [{ effect: 'permit', tool: 'x' }] }, TypeError],
  ])('`%s` that cannot be understood (%o) is refused by name, and nothing is written', async (name, options, kind) => {
    const data = temporaryDirectory()
    const store = memoryStore()
    const failure = await openKernel({ store, data, budgets: BUDGETS, ...options }).catch((error: unknown) => error as Error)
    expect(failure).toBeInstanceOf(kind)
    expect((failure as Error).message).toContain(`\`${name}\``)
    expect(await store.list('', { limit: 10 })).toEqual([])
    expect(existsSync(join(data, 'chains'))).toBe(false)
  })

  test('at the end of its range is taken', async () => {
    const options = {
      waitMs: 0,
      holdDeadlineMs: 2 ** 31 - 1,
      leaseTtlMs: 100,
      audit: 'durable',
      mode: 'observe',
      gates: [],
      rules: [],
    } as const
    const { kernel } = await open({ ...options, data: temporaryDirectory(), budgets: BUDGETS })
    expect(kernel.mode).toBe('observe')
  })
})

describe('a kernel that could not be opened', () => {
  test.each<[string, Partial<KernelOptions>]>([
    ['its budgets contradict those of the store', { budgets: { acme: { tokens: 99 } } }],
    ['its budgets cannot be read', { budgets: { acme: { tokens: -1 } } }],
  ])('because %s has no file open, and says so at its end', async (_, options) => {
    const data = temporaryDirectory()
    const { store } = await open({ budgets: BUDGETS })
    await expect(openKernel({ store, data, ...options })).rejects.toThrow(/acme/)
    expect(openFiles(data)).toEqual([])
    expect((await verifyAudit(data)).map(({ ok, records }) => [ok, records])).toEqual([[true, 1]])
    const { kernel } = await open({ store, data })
    expect(openFiles(data)).toEqual(['jsonl', 'lock'].map((name) => join(data, 'chains', `${kernel.boot}.${name}`)))
    await kernel.close()
    expect(openFiles(data)).toEqual([])
  })
})

describe('two kernels in one process on one file store', () => {
  test('share its budgets, and each has a chain and a process record of its own', async () => {
    const data = temporaryDirectory()
    const { kernel: one, store } = await open({ store: openStore(data), budgets: BUDGETS })
    const { kernel: two } = await open({ store: openStore(data) })
    const holds = [await take(one, 'acme', { tokens: 60 }), await take(two, 'acme', { tokens: 40 })]
    await expect(take(one, 'acme', { tokens: 1 })).rejects.toMatchObject({ code: 'ERR_BUDGET_BUSY' })
    expect((await store.list('process/', { limit: 10 })).map(({ key }) => key).sort()).toEqual(
      [`process/${one.boot}`, `process/${two.boot}`].sort(),
    )
    await one.close()
    await holds[1]!.settle({ tokens: 4 })
    expect(await line(store, 'acme')).toMatchObject({ spent: 64, assumed: 60, free: 36 })
    await two.close()
    // Beyond the last head in the store stands the note of where the store was then.
    expect((await verifyAudit(data, openStore(data))).map(({ ok, beyondHead }) => [ok, beyondHead])).toEqual([
      [true, 1],
      [true, 1],
    ])
  })

  test('can be opened and closed one after the other, and what was spent stays spent', async () => {
    const data = temporaryDirectory()
    for (const spent of [10, 20, 30]) {
      const store = fileStore(data, { durability: 'os' })
      await using kernel = await openKernel({ store, budgets: BUDGETS })
      await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
      expect(await line(store, 'acme')).toMatchObject({ spent, free: 100 - spent })
    }
  })
})

/** A data directory that three holds were settled in; by a process that closed its kernel, or that was cut off. */
async function used(end: 'closed' | 'cut off'): Promise<string> {
  const data = temporaryDirectory()
  const { kernel } = await open({ store: openStore(data), budgets: BUDGETS })
  for (let count = 0; count < 3; count++) await (await take(kernel, 'acme', { tokens: 10 })).settle({ tokens: 10 })
  if (end === 'closed') {
    await kernel.close()
    return data
  }
  // The note of where the store stood is written a moment after the last acknowledgement.
  await vi.waitFor(() => expect(records(data, kernel.boot).at(-1)).toMatchObject({ kind: 'head' }))
  const copy = temporaryDirectory()
  cpSync(data, copy, { recursive: true })
  return copy
}

/** Removes the last lines of the journal, whole, as if they had never been written. */
function cut(data: string, lines: number): void {
  const segment = segmentOf(data)
  const kept = readFileSync(segment, 'utf8').trimEnd().split('\n').slice(0, -lines)
  truncateSync(segment, Buffer.byteLength(kept.map((one) => `${one}\n`).join('')))
}

describe('a store that has lost what it acknowledged', () => {
  test.each([
    ['closed', 1],
    ['closed', 4],
    ['cut off', 1],
    ['cut off', 4],
  ] as const)('after its process was %s, by %i last lines of its journal, is ERR_DAMAGE: nothing is opened', async (end, lines) => {
    const data = await used(end)
    cut(data, lines)
    await expect(openKernel({ store: openStore(data), budgets: BUDGETS })).rejects.toMatchObject({
      code: 'ERR_DAMAGE',
      message: expect.stringContaining('has lost writes that it acknowledged'),
    })
    expect(openFiles(join(data, 'chains'))).toEqual([])
  })

  test('with its whole folder, is ERR_DAMAGE, though the folder that comes in its place is whole', async () => {
    const data = await used('closed')
    rmSync(join(data, 'store'), { recursive: true })
    await expect(openKernel({ store: openStore(data), budgets: BUDGETS })).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })

  test.each(['closed', 'cut off'] as const)(
    'is told from one that has lost nothing (%s): that opens, with all that was spent',
    async (end) => {
      const data = await used(end)
      const { store } = await open({ store: openStore(data), budgets: BUDGETS })
      expect(await line(store, 'acme')).toMatchObject({ spent: 30, free: 70 })
    },
  )

  test('NEGATIVE CONTROL: without the note of the chain it opens, and what was spent is free again', async () => {
    const data = await used('closed')
    cut(data, 4)
    rmSync(join(data, 'chains'), { recursive: true })
    const { store } = await open({ store: openStore(data), budgets: BUDGETS })
    expect((await line(store, 'acme')).spent).toBeLessThan(30)
  })
})

/** A kernel on a file store that can be away, and what its chain file said whenever the store was asked to write. */
async function leaving(options: Partial<KernelOptions> = {}) {
  const data = temporaryDirectory()
  const real = openStore(data)
  let away = false
  const seen: (readonly Record<string, unknown>[])[] = []
  const apply: Store['apply'] = async (batches) => {
    if (batches.some(({ delete: deleted }) => deleted?.some((key) => key.startsWith('hold/')) === true))
      seen.push(records(data, opened.kernel.boot))
    if (away) throw new Error('the store is away')
    return real.apply(batches)
  }
  const opened = await open({ store: { ...real, apply }, budgets: BUDGETS, ...options })
  return { ...opened, data, real, seen, leave: (is: boolean): void => void (away = is) }
}

describe('while the store is away', () => {
  test.each(['settle', 'release', 'charge'] as const)(
    '`%s` does not throw; its outcome is on disk before the store is asked, and reaches it once, later',
    async (how) => {
      const { kernel, data, real, seen, leave, events } = await leaving()
      const hold = await take(kernel, 'acme', { tokens: 10 })
      leave(true)
      await (how === 'settle' ? hold.settle({ tokens: 4 }, { responseId: 'resp-1' }) : hold[how]('test'))
      expect(hold.state).toBe({ settle: 'settled', release: 'released', charge: 'charged' }[how])
      expect(seen[0]!.at(-1)).toMatchObject({
        kind: 'outcome',
        hold: hold.id,
        outcome: hold.state,
        used: { tokens: { settle: 4, release: 0, charge: 10 }[how] },
      })
      expect(records(data, kernel.boot).filter(({ kind }) => kind === 'outcome')).toHaveLength(1)
      expect(kernel.pendingReports).toBe(1)
      expect(events.map(({ type }) => type)).toEqual(['report-delayed'])
      expect(await line(real, 'acme')).toMatchObject({ out: 10, spent: 0 })
      leave(false)
      await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 10_000 })
      expect(await line(real, 'acme')).toMatchObject({
        out: 0,
        spent: { settle: 4, release: 0, charge: 10 }[how],
        free: { settle: 96, release: 100, charge: 90 }[how],
      })
      expect(records(data, kernel.boot).filter(({ kind }) => kind === 'outcome')).toHaveLength(1)
    },
  )

  test('nothing is taken: ERR_STORE or the store’s own error, and nothing stays held', async () => {
    const { kernel, real, leave } = await leaving()
    leave(true)
    await expect(take(kernel, 'acme', { tokens: 10 })).rejects.toThrow(/away/)
    leave(false)
    expect(await line(real, 'acme')).toMatchObject({ free: 100, out: 0 })
    await (await take(kernel, 'acme', { tokens: 100 })).settle({ tokens: 1 })
  })

  test('a listener that throws does not cost a hold its end', async () => {
    const { kernel, real, leave } = await leaving({
      onEvent: () => {
        throw new Error('the listener is broken')
      },
    })
    const warnings: unknown[] = []
    const note = (warning: Error): void => void warnings.push(warning.message)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const hold = await take(kernel, 'acme', { tokens: 10 })
    leave(true)
    await hold.settle({ tokens: 4 })
    leave(false)
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 10_000 })
    expect(await line(real, 'acme')).toMatchObject({ out: 0, spent: 4 })
    expect(warnings).toEqual([expect.stringContaining('onEvent threw on `report-delayed`')])
  })

  test('many ends wait, and all of them arrive when it returns', async () => {
    const { kernel, real, leave } = await leaving()
    const holds = await Promise.all(Array.from({ length: 20 }, () => take(kernel, 'acme', { tokens: 5 })))
    leave(true)
    await Promise.all(holds.map((hold) => hold.settle({ tokens: 2 })))
    expect(kernel.pendingReports).toBe(20)
    leave(false)
    await vi.waitFor(() => expect(kernel.pendingReports).toBe(0), { timeout: 10_000 })
    expect(await line(real, 'acme')).toMatchObject({ out: 0, spent: 40, free: 60 })
  })
})

describe('the chain of a kernel', () => {
  test.each(['os', 'durable'] as const)(
    'with `audit: %s` has each intent before its take and each outcome before its end, and holds',
    async (audit) => {
      const { kernel, data, seen } = await leaving({ audit })
      const hold = await take(kernel, 'acme', { tokens: 10 })
      await hold.settle({ tokens: 4 })
      expect(seen[0]!.map(({ kind }) => kind)).toEqual(['open', 'intent', 'outcome'])
      await kernel.close()
      expect((await verifyAudit(data, openStore(data))).map(({ ok, beyondHead }) => [ok, beyondHead])).toEqual([[true, 1]])
    },
  )

  test('that cannot be written lets no kernel open', async () => {
    const data = temporaryDirectory()
    const store = openStore(data)
    await expect(openKernel({ store, data: segmentOf(data), budgets: BUDGETS })).rejects.toMatchObject({ code: 'ERR_STORE' })
    expect(await store.list('', { limit: 10 })).toEqual([])
  })

  test('of a store without a directory is kept in memory, unless it is told where', async () => {
    const data = temporaryDirectory()
    const { kernel } = await open({ budgets: BUDGETS })
    expect(kernel.auditLines).toHaveLength(1)
    const { kernel: filed } = await open({ budgets: BUDGETS, data })
    expect([filed.auditLines, records(data, filed.boot).length]).toEqual([[], 1])
  })
})
