// The processes of a soak: starts them, kills them, stops and wakes them, and adds up what they tell.

import { fork, type ChildProcess } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Exceeded, Orders, Tally } from './orders.ts'

/** What all processes told. */
export interface Told {
  readonly counts: Record<string, number>
  readonly exceeded: Exceeded[]
  readonly troubles: Set<string>
}

/** One process. */
export interface Member {
  readonly orders: Orders
  /** It has opened its kernel. */
  readonly ready: Promise<void>
  readonly ended: Promise<void>
  /** It spends: it was told to go, and has not ended. */
  readonly isAtWork: boolean
  readonly isOver: boolean
  go(): void
  /** Lets it finish what it is doing, and seal what it holds. */
  leave(): void
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGSTOP, and SIGCONT. */
  freeze(): void
  wake(): void
}

/** Makes what {@link start} adds to. */
export function nothingTold(): Told {
  return { counts: {}, exceeded: [], troubles: new Set() }
}

const living = new Set<ChildProcess>()
// A process that sleeps does not notice that its parent is gone.
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL')
})

/** Starts a process. One that ends although nobody killed it, or with an error, is trouble. */
export function start(orders: Orders, told: Told): Member {
  const child = fork(join(import.meta.dirname, 'worker.ts'), [JSON.stringify(orders)], {
    execArgv: [],
    // Most of a short life would be spent compiling what the one before it has compiled already.
    env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), 'holdfast-soak-compiled') },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  living.add(child)
  let killed = false
  let gone = false
  let over = false
  let errors = ''
  child.stderr!.on('data', (chunk: Buffer) => (errors = `${errors}${chunk.toString()}`.slice(-2_000)))
  const ready = new Promise<void>((resolve) => {
    child.on('message', (message) => {
      if (message === 'ready') resolve()
      else hear(message as Tally, told)
    })
  })
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code) => {
      over = true
      living.delete(child)
      if (!killed && code !== 0) told.troubles.add(`${orders.name} ended with ${code}: ${errors}`)
      resolve()
    })
  })
  return {
    orders,
    ready: Promise.race([ready, ended]),
    ended,
    get isAtWork() {
      return gone && !over
    },
    get isOver() {
      return over
    },
    go() {
      gone = true
      say(child, 'go')
    },
    leave: () => say(child, 'stop'),
    async kill() {
      killed = true
      child.kill('SIGKILL')
      await ended
    },
    freeze: () => void child.kill('SIGSTOP'),
    wake: () => void child.kill('SIGCONT'),
  }
}

function hear({ counts, exceeded, troubles }: Tally, told: Told): void {
  for (const [what, many] of Object.entries(counts)) told.counts[what] = (told.counts[what] ?? 0) + many
  told.exceeded.push(...exceeded)
  for (const trouble of troubles) if (told.troubles.size < 100) told.troubles.add(trouble)
}

function say(child: ChildProcess, what: 'go' | 'stop'): void {
  // One that is dead cannot be told any more.
  if (child.connected) child.send(what, () => undefined)
}
