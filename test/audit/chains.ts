// What the audit tests share: data directories with a real trail in them, and the tools of somebody who changes it.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { decodeRecord, encodeRecord, type AuditRecord } from '../../src/audit/record.ts'
import type { StoredHead } from '../../src/audit/verify.ts'
import { canonicalJson, type Json } from '../../src/lib/canonical-json.ts'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'

/** A directory of this test; it goes with the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** The chain file of a data directory. */
export function chainFile(directory: string, chain: string): string {
  return join(directory, 'chains', `${chain}.jsonl`)
}

/** The lines of a chain file, without their newlines. */
export function linesOf(directory: string, chain: string): string[] {
  return readFileSync(chainFile(directory, chain), 'utf8').split('\n').slice(0, -1)
}

/** The records of lines that hold. */
export function recordsOf(lines: readonly string[]): AuditRecord[] {
  return lines.map((line) => {
    const decoded = decodeRecord(line)
    if ('fault' in decoded) throw new Error(`${line}: ${decoded.fault}`)
    return decoded.record
  })
}

/** Writes the chain file of a directory, each line with its newline. */
export function writeChain(directory: string, chain: string, lines: readonly string[]): void {
  mkdirSync(join(directory, 'chains'), { recursive: true })
  writeFileSync(chainFile(directory, chain), lines.map((line) => `${line}\n`).join(''))
}

/** The head that the store has of a chain. */
export async function storedHead(store: Store, chain: string): Promise<StoredHead | undefined> {
  return (await store.read([`head/${chain}`]))[0]?.value as StoredHead | undefined
}

/** A store that knows these heads and nothing else. */
export async function storeWithHeads(heads: Readonly<Record<string, StoredHead>>): Promise<Store> {
  const store = memoryStore()
  await store.apply(Object.entries(heads).map(([chain, head]) => ({ set: [{ key: `head/${chain}`, value: { ...head } }] })))
  return store
}

/** The head of these lines. */
export function headOf(lines: readonly string[]): StoredHead {
  return { count: lines.length, hash: (JSON.parse(lines.at(-1)!) as { h: string }).h }
}

/** A line with other members and the hash that it had: the work of somebody who does not understand hashes. */
export function edited(line: string, change: (record: Record<string, Json>) => void): string {
  const { h, ...record } = JSON.parse(line) as Record<string, Json> & { h: string }
  change(record)
  return `${canonicalJson(record).slice(0, -1)},"h":${JSON.stringify(h)}}`
}

/** A line with other members and the hash that fits: the work of somebody who does. */
export function forged(line: string, change: (record: Record<string, Json>) => void): string {
  const { h: _, ...record } = JSON.parse(line) as Record<string, Json> & { h: string }
  change(record)
  return encodeRecord(record as AuditRecord).line
}

/** Links lines to each other again, each with its new place, predecessor and hash. */
export function relinked(chain: string, lines: readonly string[], from = 0): string[] {
  const linked: string[] = []
  for (const [index, line] of lines.entries()) {
    if (index < from) linked.push(line)
    else {
      const prev = index === 0 ? chain : headOf(linked).hash
      linked.push(forged(line, (record) => Object.assign(record, { chain, seq: index, prev })))
    }
  }
  return linked
}

const BUDGETS = { acme: { usd: 1, calls: 100 }, 'acme/*': { calls: 50 } }

/** Opens a kernel with budgets and rules for all that a trail may hold. */
export async function openAudited(options: Partial<KernelOptions> & Pick<KernelOptions, 'store'>): Promise<Kernel> {
  const rules = [{ effect: 'allow', tool: 'search' } as const, { effect: 'ask', tool: 'pay' } as const]
  return openKernel({ budgets: BUDGETS, rules, waitMs: 0, leasing: 'off', onEvent: () => {}, ...options })
}

/** A closed chain with records of every kind, and the head that its store has of it. */
export async function workedChain(): Promise<{ chain: string; lines: string[]; head: StoredHead }> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-'))
  const store = memoryStore()
  const kernel = await openAudited({ store, data: directory })
  try {
    await work(kernel)
    await kernel.close()
    return { chain: kernel.boot, lines: linesOf(directory, kernel.boot), head: (await storedHead(store, kernel.boot))! }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function work(kernel: Kernel): Promise<void> {
  const scope = kernel.scope({ agent: 'r\u00e9sum\u00e9 \u{1f916}', task: 'report-7', budget: 'acme/report-7' })
  const model = { kind: 'model', resource: 'gpt "5"', worst: { usd: 1_000_000, calls: 1 } }
  await (await scope.begin(model)).settle({ usd: 400, calls: 1 }, { responseId: 'resp_1', priceSource: 'list 1' })
  await (await scope.begin(model)).release('not sent')
  await (await scope.begin({ ...model, output: { tokens: 10, minTokens: 1, perToken: { usd: 7 } } })).charge('cut off')
  const refusal = await scope.decide({ kind: 'tool', resource: 'pay', args: { to: 'bob' } })
  const argsHash = refusal!.details.argsHash!
  await kernel.approve({ agent: scope.agent, tool: 'pay', argsHash, by: 'eve', expiresInMs: 1_000 })
  scope.report({ type: 'assumed', message: 'an answer\nwithout usage \ufffd' })
}
