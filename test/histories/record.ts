// Records histories of a real store: several clients at once, in this process or in others, each with a connection
// and a wire of its own, and in the end one read of everything by a client that has had no trouble.

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { newId } from '../../src/lib/ids.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import { breakStore, type Break } from './broken-clients.ts'
import { nanosecondsSince, runClient, type Script } from './client.ts'
import type { History, Operation, Workload } from './history.ts'
import { openClient, patiently, type Address, type SiteClient } from './sites.ts'
import { keysOfWorkload } from './workloads.ts'

/** Who takes part. */
export interface CrewOptions {
  readonly address: Address
  readonly clients: number
  /** Processes that the clients are spread over; 0 for this one. The memory store has no other. */
  readonly processes: number
  /** What all clients do wrong. @default nothing */
  readonly mistake?: Break
}

/** What is recorded. */
export interface Plan {
  readonly workload: Workload
  readonly seed: number
  /** Of each client. */
  readonly calls: number
  /** Share of histories with faults, from 0 to 1. */
  readonly troubled: number
}

/** Clients of one store. */
export interface Crew {
  record(plan: Plan): Promise<History>
  close(): Promise<void>
}

/** Something that runs scripts, here or in another process. */
interface Member {
  run(script: Script): Promise<readonly Operation[]>
  close(): Promise<void>
}

/** In a troubled history, this share of writes meets a fault. */
const FAULT_SHARE = 0.12

/** Opens the clients of a store. */
export async function openCrew({ address, clients, processes, mistake }: CrewOptions): Promise<Crew> {
  const reader = await openClient(address, 0)
  const workers = await Promise.all(Array.from({ length: processes }, (_, index) => startWorker(address, index, mistake)))
  const members = await Promise.all(
    Array.from({ length: clients }, async (_, index) => workers[index % workers.length] ?? localMember(address, index, mistake)),
  )
  return {
    async record({ workload, seed, calls, troubled }) {
      const random = seededRandom(seed)
      const faultShare = random() < troubled ? FAULT_SHARE : 0
      const prefix = `${newId()}/`
      const startedAt = String(process.hrtime.bigint())
      const scripts = members.map((_, index): Script => {
        const own = { name: `c${index}`, seed: seed * 100 + index }
        return { ...own, workload, prefix, calls, faultShare, startedAt }
      })
      const parts = await Promise.all(scripts.map(async (script, index) => members[index]!.run(script)))
      const last = await readLast(reader, keysOfWorkload(workload, prefix), startedAt)
      return { format: 1, store: address.store, seed, workload, operations: [...parts.flat(), last].map(plain(prefix)) }
    },
    async close() {
      for (const member of new Set(members)) await member.close()
      await reader.close()
    },
  }
}

/** Reads once all clients are done. */
async function readLast({ store }: SiteClient, keys: readonly string[], startedAt: string): Promise<Operation> {
  return patiently(async () => {
    const invoked = nanosecondsSince(startedAt)
    const entries = await store.read(keys)
    return { client: 'last', invoked, returned: nanosecondsSince(startedAt), call: { do: 'read', keys, entries } }
  })
}

/** The operation without the prefix of its history, which would only be in the way of a reader. */
function plain(prefix: string): (operation: Operation) => Operation {
  const clean = (text: unknown): unknown => (typeof text === 'string' && text.startsWith(prefix) ? text.slice(prefix.length) : text)
  return (operation) =>
    JSON.parse(JSON.stringify(operation), (_, value: unknown) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return clean(value)
      return Object.fromEntries(Object.entries(value).map(([name, member]) => [clean(name), member]))
    }) as Operation
}

async function localMember(address: Address, index: number, mistake: Break | undefined): Promise<Member> {
  const client = await openClient(address, index)
  const store = mistake === undefined ? client.store : breakStore(client.store, mistake)
  return { run: async (script) => runClient(store, client.wire, script), close: async () => client.close() }
}

/** What a worker is told, and tells. */
export type WorkerMessage =
  | { readonly do: 'run'; readonly number: number; readonly script: Script }
  | { readonly do: 'done'; readonly number: number; readonly operations: readonly Operation[] }
  | { readonly do: 'ready' }
  | { readonly do: 'end' }

async function startWorker(address: Address, index: number, mistake: Break | undefined): Promise<Member> {
  const child = fork(join(import.meta.dirname, 'worker.ts'), [JSON.stringify({ address, index, mistake })], { execArgv: [] })
  const waiting = new Map<number, (operations: readonly Operation[]) => void>()
  const lost = failure(child)
  let runs = 0
  child.on('message', (message: WorkerMessage) => {
    if (message.do === 'done') waiting.get(message.number)?.(message.operations)
  })
  await Promise.race([once(child, 'message'), lost])
  return {
    async run(script) {
      const number = ++runs
      const done = new Promise<readonly Operation[]>((resolve) => waiting.set(number, resolve))
      child.send({ do: 'run', number, script } satisfies WorkerMessage)
      return Promise.race([done, lost])
    },
    async close() {
      const exited = once(child, 'exit')
      child.send({ do: 'end' } satisfies WorkerMessage)
      await exited
    },
  }
}

/** Rejects when a worker ends with an error, which it has printed. */
async function failure(child: ChildProcess): Promise<never> {
  const lost = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => {
      if (code !== 0) reject(new Error(`A worker ended with ${code ?? signal}.`))
    })
  })
  // It may end while nobody waits for it; whoever asks it next is told.
  lost.catch(() => {})
  return lost
}
