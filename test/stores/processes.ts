// Many processes on one store: starts them, kills and stops them at random, puts torn and stale lines into
// their journal, and at the end holds what they were told against what is there.

import { fork, type ChildProcess } from 'node:child_process'
import { closeSync, constants, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import { MAX_ENTRIES, type Entry, type Store } from '../../src/stores/store.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import type { CommitterOptions } from './committer.ts'
import { segmentOf } from './journal.ts'
import { openAnyKind, type StoreKind } from './store-kinds.ts'

const PROCESSES = 8
const CALLERS = 4

/** How a run goes. */
export interface RunOptions {
  readonly kind: StoreKind
  readonly directory: string
  readonly seed: number
  /** Commits of each caller; those of a killed process are not made up for. */
  readonly commits: number
  readonly checkShare: number
  readonly pauseMs: number
  /** Of a file store: how long a segment may grow. @default as the store has it */
  readonly segmentBytes?: number
  /** Kills, stops and foreign lines for this long, then the end. @default none, the processes finish their commits */
  readonly chaosMs?: number
  /** What else happens meanwhile, between kills and stops. @default foreign lines, in the journal of a file store */
  readonly disturb?: () => Promise<void>
}

/** What came out of a run. */
export interface Verdict {
  readonly acknowledged: { readonly add: number; readonly set: number }
  readonly inDoubt: { readonly add: number; readonly set: number }
  /** The keys `counter` and `checked`. */
  readonly counter: number
  readonly checked: number
  /** Acknowledged commits that are not there. */
  readonly lost: readonly string[]
  /** Commits that were applied more than once. */
  readonly twice: readonly string[]
  /** Commits that nobody sent. */
  readonly invented: readonly string[]
  /** Commits that are there, of both kinds: what `counter` and `checked` must add up to. */
  readonly applied: number
  /** Errors that processes ended with. */
  readonly errors: readonly string[]
  readonly kills: number
  readonly stops: number
  readonly injected: Readonly<Record<'torn' | 'stale' | 'repeated', number>>
}

interface Slot {
  readonly index: number
  incarnation: number
  child: ChildProcess | undefined
  ended: Promise<void>
}

/** Runs the processes and judges what they leave. */
export async function runProcesses(options: RunOptions): Promise<Verdict> {
  const logs = join(options.directory, 'logs')
  mkdirSync(logs, { recursive: true })
  const run = { over: false, kills: 0, stops: 0, injected: { torn: 0, stale: 0, repeated: 0 } }
  const slots: Slot[] = Array.from({ length: PROCESSES }, (_, index) => ({
    index,
    incarnation: 0,
    child: undefined,
    ended: Promise.resolve(),
  }))
  onTestFinished(() => {
    run.over = true
    for (const { child } of slots) child?.kill('SIGKILL')
  })

  async function start(slot: Slot, go: Promise<unknown>): Promise<void> {
    slot.incarnation += 1
    const name = `${slot.index}-${slot.incarnation}`
    const seed = options.seed * 1_000 + slot.index * 100 + slot.incarnation
    const told: CommitterOptions = { ...options, name, seed, log: join(logs, name), callers: CALLERS }
    const child = fork(join(import.meta.dirname, 'committer.ts'), [JSON.stringify(told)], {
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    slot.child = child
    slot.ended = new Promise((resolve) => child.once('exit', () => resolve()))
    await Promise.race([new Promise((resolve) => child.once('message', resolve)), slot.ended])
    await go
    // A killed one cannot be told any more.
    if (child.connected) child.send('go', () => {})
  }

  let allReady: () => void
  const go = new Promise<void>((resolve) => (allReady = resolve))
  const started = slots.map((slot) => start(slot, go))
  await Promise.all(slots.map(({ child, ended }) => Promise.race([new Promise((resolve) => child!.once('message', resolve)), ended])))
  allReady!()
  await Promise.all(started)
  if (options.chaosMs !== undefined) {
    await chaos(options, slots, run, (slot) => start(slot, Promise.resolve()))
    for (const { child } of slots) if (child?.connected === true) child.send('stop', () => {})
  }
  await Promise.all(slots.map(({ ended }) => ended))
  return judge(options, logs, run)
}

type Counts = { kills: number; stops: number; injected: { torn: number; stale: number; repeated: number } }

/** Kills, stops and foreign lines, in an order that the seed decides. */
async function chaos(
  { kind, directory, seed, chaosMs, disturb }: RunOptions,
  slots: readonly Slot[],
  counts: Counts,
  restart: (slot: Slot) => Promise<void>,
) {
  const random = seededRandom(seed)
  const restarts: Promise<void>[] = []
  const until = performance.now() + chaosMs!
  while (performance.now() < until) {
    await sleep(20 + random() * 60)
    const slot = slots[Math.floor(random() * slots.length)]!
    const what = random()
    if (what < 0.35) {
      counts.kills += 1
      slot.child!.kill('SIGKILL')
      await slot.ended
      restarts.push(restart(slot))
    } else if (what < 0.5) {
      counts.stops += 1
      slot.child!.kill('SIGSTOP')
      await sleep(random() * 150)
      slot.child!.kill('SIGCONT')
    } else if (disturb !== undefined) await disturb()
    else if (kind === 'file') inject(segmentOf(directory), random, counts.injected)
  }
  await Promise.all(restarts)
}

/** Appends what a crash, a slow writer or a confused one would leave. */
function inject(file: string, random: () => number, counts: Counts['injected']): void {
  const descriptor = openSync(file, constants.O_RDWR | constants.O_APPEND)
  try {
    const { size } = statSync(file)
    const lastByte = Buffer.alloc(1)
    readSync(descriptor, lastByte, 0, 1, Math.max(0, size - 1))
    // Before the first line there is nothing yet that a line could be stale against.
    if (size === 0) return
    const { id } = JSON.parse(readFileSync(join(file, '..', 'store.json'), 'utf8')) as { id: string }
    const { text } = encodeLine({ previous: id, writer: 'foreign:1', timeMs: 1, batches: [{ add: [{ key: 'counter', by: 1_000 }] }] })
    const what = random()
    if (what < 0.2) {
      counts.stale += 1
      writeSync(descriptor, `${text}\n`)
    } else if (what < 0.4) {
      counts.repeated += 1
      const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
      writeSync(descriptor, `${lines[Math.floor(random() * Math.min(lines.length, 50))] ?? ''}\n`)
    } else if (lastByte[0] === 10) {
      // A crash tears one line; the next writer heals it or, too late to see it, glues its own to it.
      counts.torn += 1
      writeSync(descriptor, text.slice(0, 1 + Math.floor(random() * (text.length - 1))))
    }
  } finally {
    closeSync(descriptor)
  }
}

async function judge({ kind, directory }: RunOptions, logs: string, { kills, stops, injected }: Counts): Promise<Verdict> {
  const intents = new Map<string, 'add' | 'set'>()
  const acknowledged = new Map<string, 'add' | 'set'>()
  const errors: string[] = []
  for (const log of readdirSync(logs)) {
    for (const line of readFileSync(join(logs, log), 'utf8').split('\n').slice(0, -1)) {
      const [what, kindOfCommit, uid] = line.split(' ') as ['I' | 'A' | 'E', 'add' | 'set', string]
      if (what === 'E') errors.push(line)
      else (what === 'I' ? intents : acknowledged).set(`done/${uid}`, kindOfCommit)
    }
  }
  const store = await openAnyKind(kind, directory)
  const done = new Map((await allEntries(store, 'done/')).map(({ key, value }) => [key, value]))
  const [counter, checked] = (await store.read(['counter', 'checked'])).map((entry) => Number(entry?.value ?? 0))
  await store.close()
  const inDoubt = new Map([...intents].filter(([key]) => !acknowledged.has(key)))
  return {
    acknowledged: countKinds(acknowledged),
    inDoubt: countKinds(inDoubt),
    counter: counter!,
    checked: checked!,
    lost: [...acknowledged.keys()].filter((key) => !done.has(key)),
    twice: [...done].filter(([, value]) => value !== 1).map(([key]) => key),
    invented: [...done.keys()].filter((key) => !intents.has(key)),
    applied: done.size,
    errors,
    kills,
    stops,
    injected,
  }
}

function countKinds(commits: ReadonlyMap<string, 'add' | 'set'>): { add: number; set: number } {
  const kinds = [...commits.values()]
  return { add: kinds.filter((kind) => kind === 'add').length, set: kinds.filter((kind) => kind === 'set').length }
}

async function allEntries(store: Store, prefix: string): Promise<Entry[]> {
  const found: Entry[] = []
  for (;;) {
    const after = found.at(-1)?.key
    const page = await store.list(prefix, { limit: MAX_ENTRIES, ...(after === undefined ? {} : { after }) })
    found.push(...page)
    if (page.length < MAX_ENTRIES) return found
  }
}

/** True while a process with this id is there. */
export function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
}
