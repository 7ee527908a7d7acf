// Many processes on one budget, and one provider that keeps the bill: starts them, kills and stops them, and holds
// the ledger against the bill, as often as one likes.

import { fork } from 'node:child_process'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { readBudgets } from '../../src/budget/report.ts'
import type { HoldRecord } from '../../src/budget/processes.ts'
import { MAX_ENTRIES, type Store } from '../../src/stores/store.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import type { SimulatedProvider } from '../../src/testing/provider.ts'

/** What a spender is told. */
export interface SpenderOptions {
  readonly directory: string
  readonly baseURL: string
  /** Path of its budget; the limit itself for `check-then-charge`. */
  readonly budget: string
  /** Stands in every message that it sends. */
  readonly name: string
  /** Calls at the same time, and how many each of them makes at most. */
  readonly callers: number
  readonly calls: number
  readonly outputTokens: number
  readonly leaseTtlMs: number
  readonly waitMs: number
  /** `handoff`: every call is made by a helper, with money of its own; each second one by a helper of the helper. */
  readonly how: 'holdfast' | 'handoff' | 'refund-on-error' | 'check-then-charge'
}

/** What a spender did. */
export interface Spent {
  readonly answered: number
  readonly failed: number
  readonly refused: Readonly<Record<string, number>>
}

/** A spender that runs. */
export interface Spender {
  /** Lets it begin, as soon as it is ready. */
  go(): Promise<void>
  /** Lets it finish what it is doing. */
  stop(): void
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGSTOP, and SIGCONT. */
  pause(): void
  resume(): void
  /** What it did; `undefined` when it was killed. */
  readonly ended: Promise<Spent | undefined>
}

/** Starts a spender; it is killed when the test ends. */
export const startSpender = (options: SpenderOptions): Spender => startProcess('spender.ts', options)

/** Starts a program of this folder that says `ready` and waits for `go`; it is killed when the test ends. */
export function startProcess(file: string, options: object): Spender {
  const child = fork(join(import.meta.dirname, file), [JSON.stringify(options)], {
    execArgv: [],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let spent: Spent | undefined
  const ended = new Promise<Spent | undefined>((resolve) => child.once('exit', () => resolve(spent)))
  const ready = new Promise<void>((resolve) => {
    child.on('message', (message) => {
      if (message === 'ready') resolve()
      else spent = message as Spent
    })
  })
  // A killed one cannot be told any more.
  const tell = (what: 'go' | 'stop'): void => void (child.connected && child.send(what, () => undefined))
  return {
    ended,
    async go() {
      await Promise.race([ready, ended])
      tell('go')
    },
    stop: () => tell('stop'),
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}

/** What a ledger says of its root. */
export interface Account {
  readonly limit: number
  readonly spent: number
  readonly suspense: number
  readonly out: number
  /** With those to whom it was handed. */
  readonly kids: number
}

/** Holds an account against the bill of the provider. Says what is wrong; nothing when all is well. */
export function faultsOf(billed: number, { limit, spent, suspense, out, kids }: Account): readonly string[] {
  const faults: string[] = []
  if (billed > limit) faults.push('the bill is beyond the limit')
  if (billed > spent + suspense + out + kids) faults.push('the bill is beyond what the ledger knows of')
  if (spent + suspense + out + kids > limit) faults.push('the ledger is beyond the limit')
  return faults
}

/** Looks at everything now: what is wrong anywhere, in any budget. */
export async function inspect(store: Store, provider: SimulatedProvider): Promise<readonly string[]> {
  // The bill first: what is on it was held before, and stays on it whatever is settled meanwhile.
  const billed = provider.bill().nanoUsd
  const lines = await readBudgets(store)
  const torn = lines.filter(({ balanced }) => !balanced).map((line) => `out of balance: ${JSON.stringify(line)}`)
  return [
    ...torn,
    ...faultsOf(
      billed,
      lines.find(({ budget }) => budget === 'acme')!,
    ),
  ]
}

/** What the records of suspended holds add up to, by leg. */
export async function suspendedLegs(store: Store): Promise<Readonly<Record<string, number>>> {
  const sums: Record<string, number> = {}
  for (const { value } of await store.list('suspended/', { limit: MAX_ENTRIES }))
    for (const [leg, { amount }] of Object.entries((value as unknown as HoldRecord).legs)) sums[leg] = (sums[leg] ?? 0) + amount
  return sums
}

/** What happened to the processes. */
export interface Chaos {
  readonly kills: number
  readonly stops: number
  /** Of all looks at the ledger meanwhile. */
  readonly looks: number
  readonly faults: readonly string[]
}

/** Kills and respawns, stops and wakes at random for a while, and looks at ledger and bill all the time. */
export async function chaos(
  spenders: Spender[],
  respawn: (slot: number) => Spender,
  look: () => Promise<readonly string[]>,
  { ms, stopMs, seed }: { readonly ms: number; readonly stopMs: number; readonly seed: number },
): Promise<Chaos> {
  const random = seededRandom(seed)
  const until = performance.now() + ms
  const faults: string[] = []
  const counts = { kills: 0, stops: 0, looks: 0 }
  const stopped = new Set<number>()
  const wakes: Promise<void>[] = []
  const over = new AbortController()
  const looking = (async () => {
    while (!over.signal.aborted) {
      faults.push(...(await look()))
      counts.looks += 1
      await sleep(10)
    }
  })()
  while (performance.now() < until) {
    await sleep(100 + random() * 300)
    const slot = Math.floor(random() * spenders.length)
    if (stopped.has(slot)) continue
    if (random() < 0.7) {
      counts.kills += 1
      await spenders[slot]!.kill()
      spenders[slot] = respawn(slot)
      void spenders[slot].go()
    } else if (stopped.size < 2) {
      counts.stops += 1
      stopped.add(slot)
      spenders[slot]!.pause()
      wakes.push(sleep(stopMs).then(() => (spenders[slot]!.resume(), void stopped.delete(slot))))
    }
  }
  await Promise.all(wakes)
  over.abort()
  await looking
  return { ...counts, faults: [...new Set(faults)] }
}
