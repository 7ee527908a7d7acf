// What a kernel writes, and when: the intent before the effect, the outcome after it, refusals and approvals, the
// head of the chain in every batch of the store. Processes are really killed, and disks are really full.

import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { AuditRecord } from '../../src/audit/record.ts'
import { verifyAudit, type ChainVerdict } from '../../src/audit/verify.ts'
import { canonicalJson } from '../../src/lib/canonical-json.ts'
import type { Refusal } from '../../src/lib/errors.ts'
import { sha256 } from '../../src/lib/ids.ts'
import type { Kernel, KernelOptions } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { faultyStore } from '../../src/testing/faulty-store.ts'
import { settableClock, times } from '../../src/testing/store-bench.ts'
import { linesOf, openAudited, recordsOf, storedHead, temporaryDirectory } from './chains.ts'

const MODEL = { kind: 'model', resource: 'gpt', worst: { usd: 1_000, calls: 1 } }

interface Opened {
  readonly kernel: Kernel
  readonly store: Store
  readonly directory: string
  readonly scope: ReturnType<Kernel['scope']>
  readonly records: () => AuditRecord[]
}

async function open(options: Partial<KernelOptions> = {}, onFile = false): Promise<Opened> {
  const directory = options.data ?? temporaryDirectory()
  const store = options.store ?? (onFile ? fileStore(directory, { durability: 'os' }) : memoryStore())
  const kernel = await openAudited({ data: directory, ...options, store })
  onTestFinished(() => kernel.close())
  const scope = kernel.scope({ agent: 'ann', task: 'report-7', budget: 'acme/report-7' })
  return { kernel, store, directory, scope, records: () => recordsOf(linesOf(directory, kernel.boot)) }
}

describe('the trail of an action', () => {
  test('has its intent before the effect begins, and its outcome only after the effect', async () => {
    const { scope, records } = await open()
    const during = await scope.run(MODEL, async () => records())
    expect(during.map(({ kind }) => kind)).toEqual(['open', 'intent'])
    expect(records().map(({ kind }) => kind)).toEqual(['open', 'intent', 'outcome'])
  })

  test('says who wanted what with which arguments for how much, and what it used', async () => {
    const { scope, records } = await open()
    const args = { b: 1, a: ['\u00e9'] }
    const hold = await scope.begin({ ...MODEL, args })
    await hold.settle({ usd: 7 }, { responseId: 'resp_1', priceSource: 'list 1' })
    const about = { hold: hold.id, budget: 'acme/report-7' }
    expect(records().slice(1)).toMatchObject([
      {
        ...about,
        kind: 'intent',
        action: 'model',
        agent: 'ann',
        task: 'report-7',
        resource: 'gpt',
        argsHash: sha256(canonicalJson(args)),
        amounts: { usd: 1_000, calls: 1 },
      },
      { ...about, kind: 'outcome', outcome: 'settled', used: { usd: 7, calls: 1 }, responseId: 'resp_1', priceSource: 'list 1' },
    ])
  })

  test('never has the arguments themselves, nor what the answer was', async () => {
    const { scope, directory, kernel } = await open()
    await scope.run({ ...MODEL, args: { password: 'hunter2' } }, async () => 'the secret answer')
    const refused = { kind: 'tool', resource: 'other', args: { password: 'hunter2' } }
    await expect(scope.begin(refused)).rejects.toMatchObject({ code: 'ERR_PERMISSION_DENIED' })
    expect(linesOf(directory, kernel.boot).join('\n')).not.toMatch(/hunter2|password|the secret answer/)
  })

  test.each([
    [
      'released',
      (hold: { release: (reason: string) => Promise<void> }) => hold.release('not sent'),
      { reason: 'not sent', used: { usd: 0 } },
    ],
    ['charged', (hold: { charge: (reason: string) => Promise<void> }) => hold.charge('cut off'), { reason: 'cut off', assumed: true }],
  ] as const)('says when it was %s, and why', async (outcome, end, fields) => {
    const { scope, records } = await open()
    await end(await scope.begin(MODEL))
    expect(records().at(-1)).toMatchObject({ kind: 'outcome', outcome, ...fields })
  })

  test('says that it failed, charged, when the effect throws', async () => {
    const { scope, records } = await open()
    const failing = scope.run(MODEL, async () => {
      throw new TypeError('with a secret in it')
    })
    await expect(failing).rejects.toThrow('with a secret in it')
    expect(records().at(-1)).toMatchObject({ outcome: 'charged', assumed: true, reason: 'it failed: TypeError' })
  })

  test('has a record of every refusal, by rule and by money, with its code', async () => {
    const { scope, records } = await open()
    await expect(scope.begin({ kind: 'tool', resource: 'other', args: { x: 1 } })).rejects.toMatchObject({ code: 'ERR_PERMISSION_DENIED' })
    await expect(scope.begin({ ...MODEL, worst: { usd: 2_000_000_000, calls: 1 } })).rejects.toMatchObject({ code: 'ERR_BUDGET_EXCEEDED' })
    expect(await scope.decide({ kind: 'tool', resource: 'pay' })).toMatchObject({ code: 'ERR_APPROVAL_REQUIRED' })
    const refused = records().filter(({ kind }) => kind === 'refused')
    expect(refused).toMatchObject([
      { code: 'ERR_PERMISSION_DENIED', agent: 'ann', action: 'tool', resource: 'other', argsHash: sha256('{"x":1}') },
      { code: 'ERR_BUDGET_EXCEEDED', resource: 'gpt', budget: 'acme/report-7' },
      { code: 'ERR_APPROVAL_REQUIRED', resource: 'pay' },
    ])
    expect(records().filter(({ kind }) => kind === 'outcome')).toEqual([])
  })

  test('has a record of every approval, with who gave it', async () => {
    const { kernel, scope, records } = await open()
    const refusal = (await scope.decide({ kind: 'tool', resource: 'pay', args: [1] })) as Refusal
    const approval = { agent: 'ann', tool: 'pay', argsHash: refusal.details.argsHash!, by: 'eve' }
    await kernel.approve({ ...approval, expiresInMs: 1_000 })
    expect(records().at(-1)).toMatchObject({ ...approval, kind: 'approve', expiresAtMs: expect.any(Number) })
    await expect(kernel.approve({ ...approval, by: '', expiresInMs: 1_000 })).rejects.toThrow('`approval.by`')
    expect(records().filter(({ kind }) => kind === 'approve')).toHaveLength(1)
  })
})

describe('the head of the chain', () => {
  test('is in the store with every acknowledged batch, the intent of the action included', async () => {
    const { kernel, store, directory, scope } = await open()
    for (let index = 0; index < 5; index++) {
      const hold = await scope.begin(MODEL)
      const lines = linesOf(directory, kernel.boot)
      expect(await storedHead(store, kernel.boot)).toEqual({ count: lines.length, hash: recordHash(lines.at(-1)!) })
      await hold.settle({ usd: 1 })
      expect((await storedHead(store, kernel.boot))?.count).toBe(linesOf(directory, kernel.boot).length)
    }
  })

  test('of what came after the last batch is not in the store, and is counted', async () => {
    const { store, directory, scope } = await open()
    await (await scope.begin(MODEL)).settle({ usd: 1 })
    for (let index = 0; index < 3; index++) expect(await scope.decide({ kind: 'tool', resource: 'other' })).toBeDefined()
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: true, records: 6, beyondHead: 3 }])
  })

  test('is still whole when every other reply of the store is lost', async () => {
    const real = memoryStore()
    // The kernel opens undisturbed.
    const troubles = ['lose-reply', 'none', 'contend', 'lose-reply', 'lose-request'] as const
    const faulty = faultyStore(real, [...times(4, () => 'none' as const), ...times(400, (index) => troubles[index % troubles.length]!)])
    const { kernel, directory, scope } = await open({ store: faulty })
    for (let index = 0; index < 40; index++) {
      const hold = await scope.begin(MODEL).catch((error: { code: string }) => error.code)
      if (typeof hold !== 'string') await hold.settle({ usd: 1 })
    }
    await kernel.close()
    expect(faulty.happened.filter((fault) => fault === 'lose-reply').length).toBeGreaterThan(20)
    expect(await verifyAudit(directory, real)).toMatchObject([{ ok: true }])
  })
})

describe('the end of a chain', () => {
  test('in a data directory beside a store in memory is its `close` record, and the store knows of all', async () => {
    const { kernel, store, directory, scope, records } = await open()
    await (await scope.begin(MODEL)).settle({ usd: 1 })
    await kernel.close()
    expect(records().at(-1)).toMatchObject({ kind: 'close', unsent: 0 })
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: true, records: 4, beyondHead: 0 }])
  })

  test('in a file store is `close`, and one record more that carries the last store head', async () => {
    const { kernel, store, directory, scope, records } = await open({}, true)
    await (await scope.begin(MODEL)).settle({ usd: 1 })
    await kernel.close()
    expect(records().map(({ kind }) => kind)).toEqual(['open', 'intent', 'outcome', 'close', 'head'])
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: true, records: 5, beyondHead: 1 }])
    await store.close()
  })

  test('without `close` shows that its process did not end well', async () => {
    const { records, scope } = await open()
    await scope.begin(MODEL)
    expect(records().map(({ kind }) => kind)).toEqual(['open', 'intent'])
  })

  test('leaves nothing to be written later: reports and approvals are refused, and a late outcome is a known gap', async () => {
    const events: string[] = []
    const { kernel, scope, records } = await open({ onEvent: ({ type }) => events.push(type) })
    const hold = await scope.begin(MODEL)
    const attempt = hold.claim()!
    await kernel.close()
    const before = records().length
    const approval = { agent: 'ann', tool: 'pay', argsHash: sha256(''), by: 'eve', expiresInMs: 1_000 }
    await expect(kernel.approve(approval)).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    expect(() => scope.report({ type: 'assumed', message: 'late' })).not.toThrow()
    await attempt.settle({ usd: 1, calls: 1 })
    expect(events).toContain('audit-gap')
    expect(records()).toHaveLength(before)
  })
})

/** Runs a process that kills itself there, and reads what it left. */
async function killed(where: string): Promise<{ records: AuditRecord[]; verdicts: readonly ChainVerdict[]; store: Store; boot: string }> {
  const directory = temporaryDirectory()
  const { signal, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, 'killed.ts'), directory, where], { encoding: 'utf8' })
  expect([signal, stderr]).toEqual(['SIGKILL', ''])
  const [file] = readdirSync(join(directory, 'chains')) as [string]
  const boot = file.slice(0, -'.jsonl'.length)
  const store = fileStore(directory, { durability: 'os' })
  onTestFinished(() => store.close())
  return { records: recordsOf(linesOf(directory, boot)), verdicts: await verifyAudit(directory, store), store, boot }
}

describe('a process that is killed', () => {
  test.each([
    ['begun', 'right after `begin`'],
    ['running', 'while the effect runs'],
  ])('%s: %s, its intent is on disk without an outcome, the chain is whole and the hold is in doubt', async (where) => {
    const { records, verdicts, store, boot } = await killed(where)
    // A machine that is slow enough writes the note of a store head in between.
    const [opened, intent, ...rest] = records.filter(({ kind }) => kind !== 'head')
    expect([opened!.kind, intent!.kind, rest]).toEqual(['open', 'intent', []])
    expect(intent).toMatchObject({ resource: 'send', argsHash: sha256('{"to":"bob"}'), amounts: { calls: 1 } })
    expect(verdicts).toMatchObject([{ chain: boot, ok: true, records: records.length }])
    const inDoubt = await store.list('hold/', { limit: 10 })
    expect(inDoubt.map(({ key }) => key)).toEqual([`hold/${boot}/${intent!['hold'] as string}`])
    expect((await store.read(['out/calls/acme', 'free/calls/acme'])).map((entry) => entry?.value)).toEqual([1, 9])
  })

  test('leaves its hold in doubt: the next kernel charges it, or moves it to suspense when it is none of its own', async () => {
    const { store, boot } = await killed('begun')
    const clock = settableClock(Date.now() + 3_600_000)
    const directory = store.dataDirectory!
    const late = fileStore(directory, { durability: 'os', clock })
    const stranger = await open({ store: late, data: temporaryDirectory(), clock, budgets: { acme: { calls: 10 } } })
    expect(stranger.records().slice(1)).toMatchObject([{ kind: 'event', type: 'suspended', process: boot, holds: 1 }])
    expect(await stranger.kernel.budgets('acme')).toMatchObject([{ suspense: 1, out: 0, free: 9, balanced: true }])
    await stranger.kernel.close()
    const { kernel, records } = await open({ store: late, data: directory, clock, budgets: { acme: { calls: 10 } } })
    expect(records().slice(1)).toMatchObject([{ kind: 'event', type: 'succeeded', process: boot, charged: 1 }])
    expect(await kernel.budgets('acme')).toMatchObject([{ suspense: 0, spent: 1, assumed: 1, out: 0, free: 9, balanced: true }])
    expect((await verifyAudit(directory, late)).filter(({ chain }) => chain !== stranger.kernel.boot)).toMatchObject([
      { ok: true },
      { ok: true },
    ])
    await kernel.close()
    await late.close()
  })

  test('right after `settle` has its outcome on disk, and nothing is in doubt', async () => {
    const { records, verdicts, store } = await killed('settled')
    expect(records.map(({ kind }) => kind).filter((kind) => kind !== 'head')).toEqual(['open', 'intent', 'outcome'])
    expect(verdicts).toMatchObject([{ ok: true, records: records.length }])
    expect(await store.list('hold/', { limit: 10 })).toEqual([])
  })

  test('right after a refusal has the refusal on disk', async () => {
    const { records, verdicts } = await killed('refused')
    expect(records.at(-1)).toMatchObject({ kind: 'refused', code: 'ERR_PERMISSION_DENIED', resource: 'other' })
    expect(verdicts).toMatchObject([{ ok: true, records: records.length }])
  })
})

interface DiskReport {
  readonly begunBefore: number
  readonly whenFull: { readonly held: number; readonly verdicts: readonly ChainVerdict[]; readonly failures: Record<string, number> }
  readonly settled: { readonly state: string; readonly events: readonly string[]; readonly spent: number }
  readonly begunLater: number
  readonly failures: Record<string, number>
  readonly verdicts: readonly ChainVerdict[]
}

/** The ways to a small disk that this machine permits: a file size limit everywhere, a tmpfs where mounting is allowed. */
function smallDisks(): readonly (readonly [what: string, command: string, args: readonly string[]])[] {
  const limit = 'ulimit -S -f 512 && exec "$NODE" "$CHILD" "$DISK" \'prlimit --pid "$TARGET" --fsize=unlimited:\''
  const limited = ['a file size limit of 256 kB', 'sh', ['-c', limit]] as const
  const mount = 'mount -t tmpfs -o size=1m tmpfs "$DISK" && head -c 800000 /dev/zero > "$DISK/filler"'
  for (const flags of [['--user', '--map-root-user', '--mount'], ['--mount']]) {
    if (spawnSync('unshare', [...flags, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()]).status !== 0) continue
    const small = `${mount} && exec "$NODE" "$CHILD" "$DISK" 'rm "$DISK/filler"'`
    return [limited, ['a tmpfs of 1 MB', 'unshare', [...flags, 'sh', '-c', small]]]
  }
  return [limited]
}

test.each(smallDisks())('on a full disk nothing begins, the chain stays whole, and with room again it goes on (%s)', (_, command, args) => {
  const env = { ...process.env, DISK: temporaryDirectory(), NODE: process.execPath, CHILD: join(import.meta.dirname, 'full-disk.ts') }
  const report = JSON.parse(execFileSync(command, args, { encoding: 'utf8', env })) as DiskReport
  const { begunBefore, whenFull, settled, begunLater, failures, verdicts } = report
  expect(begunBefore).toBeGreaterThan(0)
  expect(Object.keys(failures)).toEqual(['ERR_STORE: cut short'])
  expect(begunBefore + Object.values(whenFull.failures).reduce((sum, count) => sum + count, 0)).toBe(600)
  // Whoever was refused holds nothing; who had begun before is all that the store has.
  expect(whenFull.held).toBe(1 + begunBefore)
  expect(whenFull.verdicts).toMatchObject([{ ok: true, records: 2 + begunBefore, beyondHead: 0 }])
  expect(settled).toEqual({ state: 'settled', events: ['audit-gap'], spent: 1 })
  expect([begunLater, failures]).toEqual([10, whenFull.failures])
  // Every other hold is charged at the close; the outcome of the settled one is the gap.
  expect(verdicts).toMatchObject([{ ok: true, records: 2 + begunBefore + 10 + (begunBefore + 10) + 1, beyondHead: 0 }])
})

function recordHash(line: string): string {
  return (JSON.parse(line) as { h: string }).h
}

test('the lines in memory are those of the file', async () => {
  const memory = memoryStore()
  const kernel = await openAudited({ store: memory })
  const scope = kernel.scope({ agent: 'ann', task: 't', budget: 'acme' })
  await (await scope.begin(MODEL)).settle({ usd: 1 })
  expect(recordsOf(kernel.auditLines).map(({ kind }) => kind)).toEqual(['open', 'intent', 'outcome'])
  const { directory, kernel: onDisk } = await open()
  expect(onDisk.auditLines).toEqual([])
  expect(readFileSync(join(directory, 'chains', `${onDisk.boot}.jsonl`), 'utf8')).toContain('"kind":"open"')
  await kernel.close()
})
