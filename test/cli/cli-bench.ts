// The real command line on real data directories, for the tests of this folder.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readBudgets, type BudgetLine } from '../../src/budget/report.ts'
import { openKernel, type Kernel, type KernelOptions } from '../../src/kernel/open-kernel.ts'
import type { Amounts } from '../../src/lib/amounts.ts'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { Batch, Store } from '../../src/stores/store.ts'
import type { Hold } from '../../src/waist/hold.ts'

const FOLDER = dirname(fileURLToPath(import.meta.url))
// Most of what a short run costs is compiling the same sources again.
const ENVIRONMENT = { PATH: process.env['PATH'], NODE_COMPILE_CACHE: join(FOLDER, '../../node_modules/.cache/holdfast-cli') }

/** The file that `holdfast` runs. */
export const MAIN: string = join(FOLDER, '../../src/cli/main.ts')

/** What a run of the command line left behind. */
export interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** How the command line is run. */
export interface RunOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Options of Node itself. */
  readonly node?: readonly string[]
}

/** Runs `holdfast` with these arguments, in an environment of its own. */
export function cli(args: readonly string[], { cwd, env = {}, node = [] }: RunOptions = {}): Promise<Run> {
  return new Promise((resolve) => {
    const options = { cwd, env: { ...ENVIRONMENT, ...env }, maxBuffer: 64 * 1024 * 1024 }
    execFile(process.execPath, [...node, MAIN, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

/** The JSON document that a run printed. */
export async function cliJson<T>(args: readonly string[]): Promise<T> {
  return JSON.parse((await cli([...args, '--json'])).stdout) as T
}

const folders: string[] = []

/** A data directory that does not exist yet, in a folder of its own. */
export function newData(): string {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-cli-'))
  folders.push(folder)
  return join(folder, '.holdfast')
}

/** Removes what {@link newData} made. */
export function removeData(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}

/** A kernel on the file store of a data directory; `close` closes both. */
export async function kernelOn(data: string, options: Omit<Partial<KernelOptions>, 'store'> = {}, behindMs = 0): Promise<Kernel> {
  const store = fileStore(data, { clock: { now: () => Date.now() - behindMs } })
  const kernel = await openKernel({ store, onEvent: () => undefined, waitMs: 0, ...options })
  const close = async (): Promise<void> => {
    await kernel.close()
    await store.close()
  }
  return { ...kernel, auditLines: [], pendingReports: 0, close, [Symbol.asyncDispose]: close }
}

/** Begins one model call. */
export function hold(kernel: Kernel, budget: string, worst: Amounts): Promise<Hold> {
  return kernel.scope({ agent: 'researcher', task: 'report', budget }).begin({ kind: 'model', resource: 'gpt-5.5', worst })
}

/**
 * Opens a data directory with these budgets, and closes it again.
 *
 * @param behindMs - How far its clock is behind: the time of a store never runs backwards, so one that is to be
 *   used by a holder that is behind has to begin there.
 */
export async function declared(budgets: NonNullable<KernelOptions['budgets']>, behindMs = 0): Promise<string> {
  const data = newData()
  const kernel = await kernelOn(data, { budgets }, behindMs)
  await kernel.close()
  return data
}

/** What {@link startHolder} is told. */
export interface HolderOptions {
  readonly budget: string
  readonly worst: Amounts
  readonly mode?: 'enforce' | 'observe'
  /** How far its clocks are behind, ms: it looks silent at once, and nobody has to wait for it. @default 0 */
  readonly behindMs?: number
  /** @default 10000 */
  readonly leaseTtlMs?: number
  /** Settle at once, so that it holds nothing. @default false */
  readonly settle?: boolean
}

/** A process that holds money until it is killed with SIGKILL. */
export async function startHolder(data: string, options: HolderOptions): Promise<{ readonly pid: number; kill(): Promise<void> }> {
  const child = spawn(process.execPath, [join(FOLDER, 'holder.ts'), data, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: ENVIRONMENT,
  })
  const exited = once(child, 'exit')
  const [said] = (await Promise.race([once(child.stdout, 'data'), exited])) as [unknown]
  if (!Buffer.isBuffer(said)) throw new Error('The holder ended before it held anything.')
  return {
    pid: child.pid!,
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Runs `work` on the store itself, below any kernel. */
export async function onStore<T>(data: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = fileStore(data)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** The ledger of a data directory. Asserts the equation for every budget. */
export async function balancedIn(data: string): Promise<readonly BudgetLine[]> {
  const lines = await onStore(data, readBudgets)
  const wrong = lines.filter(({ balanced }) => !balanced)
  if (wrong.length > 0) throw new Error(`Not balanced: ${JSON.stringify(wrong)}`)
  return lines
}

/** Writes a batch that no kernel would write. */
export async function meddle(data: string, batch: Batch): Promise<void> {
  await onStore(data, (store) => store.apply([batch]))
}

/** The journal of a data directory. */
export const journalOf = (data: string): string => join(data, 'store', 'g-000000000001')

/** The chains of a data directory. */
export function chainFiles(data: string): readonly string[] {
  return readdirSync(join(data, 'chains')).map((name) => join(data, 'chains', name))
}

/** Does something to the chains of the dead, so that no kernel believes them: it shows when they were left alone for a second before. */
export async function touchChains(data: string): Promise<void> {
  await sleep(1_100)
  for (const file of chainFiles(data)) chmodSync(file, 0o600)
}

/** Changes the lines of a file. */
export function editLines(file: string, edit: (lines: string[]) => readonly string[]): void {
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  writeFileSync(
    file,
    edit(lines)
      .map((line) => `${line}\n`)
      .join(''),
  )
}

/** Changes the time in a line of a journal; from 1. */
export function damageJournal(data: string, line: number): void {
  editLines(journalOf(data), (lines) => lines.map((text, index) => (index === line - 1 ? text.replace(/"t":\d/, '"t":9') : text)))
}

/** Every file and folder below a folder. */
export function everythingIn(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
}
