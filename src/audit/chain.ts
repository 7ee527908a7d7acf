// The chain file of a process, `<data>/chains/<boot>.jsonl`: its audit trail, and what is left of it after a
// crash. Every record is one write(2) before what it announces begins, so it survives SIGKILL.

import { closeSync, fdatasyncSync, fstatSync, fsyncSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'
import type { Json } from '../lib/canonical-json.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { StoreHead } from '../waist/batch.ts'
import type { Log } from '../waist/log.ts'
import { lockFile, makeLock, type ChainLock } from './chain-lock.ts'
import { RECORD_VERSION, encodeRecord } from './record.ts'

/** Options of {@link openChain}. */
export interface ChainOptions {
  readonly boot: string
  readonly clock: Clock
  /** The clock of the system, where `clock` is another one: a successor compares it with the times of the file. @default `clock` */
  readonly wall?: Clock
  /** The data directory; without one the chain is kept in memory, for as long as the process lives. */
  readonly directory?: string
  /** Also fdatasync each record, so that it survives a power cut. */
  readonly durable: boolean
}

/** A chain that can be closed. */
export interface Chain extends Log {
  /** Whether its file is locked as long as this process lives, so that a successor can know that it is dead. */
  readonly locked: boolean
  /** The lines of a chain in memory, the newest 10,000 and up to a thousand more; of a file: none. */
  readonly lines: readonly string[]
  /** Writes the store head that no record has carried yet. */
  flush(): void
  /** @param settled - Whether nothing is left to be ended; else the lock is kept for as long as this process lives. */
  close(settled: boolean): void
}

/** Locks of chains that ended with something left; the operating system lets go of them with the process. */
const KEPT = new Set<ChainLock>()
const MAX_MEMORY_LINES = 10_000
/** Removing the first of many moves all others, so they go by the thousand. */
const LINES_REMOVED = 1_000
/** Fields that are the record's own; the others of its frame win over what a caller passes. */
const OWN_FIELDS = ['h', 'store', 'wall'] as const
/** How long an acknowledged store head may wait for the next record to carry it, ms. */
const HEAD_DELAY_MS = 100

/** Starts the chain of this process. */
export function openChain({ boot, clock, wall, directory, durable }: ChainOptions): Chain {
  const lines: string[] = []
  const file = directory === undefined ? undefined : openFile(directory, boot, durable)
  const lock = directory === undefined ? undefined : makeLock(lockFile(directory, boot))
  let count = 0
  let hash = boot
  let storeHead: StoreHead | undefined
  let headTimer: NodeJS.Timeout | undefined
  let closed = false

  function append(kind: Parameters<Log['append']>[0], fields: { readonly [key: string]: Json }): void {
    // The number of a closed descriptor may mean another file by now.
    if (closed) throw new HoldfastError('ERR_CLOSED', `The audit chain ${boot} is closed; nothing can be recorded any more.`)
    for (const name of OWN_FIELDS) if (Object.hasOwn(fields, name)) throw new TypeError(`\`${name}\` is not a field of a caller.`)
    const head = storeHead === undefined ? {} : { store: { ...storeHead } }
    const time = wall === undefined ? {} : { wall: wall.now() }
    const record = encodeRecord({
      ...fields,
      ...head,
      ...time,
      v: RECORD_VERSION,
      chain: boot,
      seq: count,
      prev: hash,
      t: clock.now(),
      kind,
    })
    if (file === undefined) {
      lines.push(record.line)
      if (lines.length >= MAX_MEMORY_LINES + LINES_REMOVED) lines.splice(0, LINES_REMOVED)
    } else file.write(`${record.line}\n`)
    // Only now: a record that could not be written is not part of the chain.
    count += 1
    hash = record.hash
    storeHead = undefined
    clearTimeout(headTimer)
    headTimer = undefined
  }

  function flush(): void {
    if (storeHead !== undefined) append('head', {})
  }

  return {
    boot,
    locked: lock !== undefined,
    lines,
    append,
    flush,
    head: () => ({ count, hash }),
    noteStoreHead(head) {
      if (closed) return
      storeHead = head
      if (file === undefined || headTimer !== undefined) return
      headTimer = setTimeout(() => {
        headTimer = undefined
        try {
          flush()
        } catch {
          // The next record will fail the same way, and its caller is told; a timer has nobody to tell.
        }
      }, HEAD_DELAY_MS)
      headTimer.unref()
    },
    close(settled) {
      if (closed) return
      closed = true
      clearTimeout(headTimer)
      file?.close()
      if (settled) lock?.release('remove')
      // Its ends may still be on their way: as long as this process lives, nobody else is to end them.
      else if (lock !== undefined) KEPT.add(lock)
    },
  }
}

function openFile(directory: string, boot: string, durable: boolean): { write(line: string): void; close(): void } {
  const folder = join(directory, 'chains')
  const path = join(folder, `${boot}.jsonl`)
  const failed = (error: unknown): HoldfastError =>
    new HoldfastError('ERR_STORE', `The audit chain ${path} cannot be written: ${(error as Error).message}. Nothing may run without it.`, {
      cause: error,
    })
  let descriptor: number
  let size = 0
  try {
    mkdirSync(folder, { recursive: true })
    descriptor = openSync(path, 'ax', 0o644)
    if (durable) syncFolder(folder)
  } catch (error) {
    throw failed(error)
  }
  let dead: HoldfastError | undefined
  return {
    write(line) {
      if (dead !== undefined) throw dead
      const bytes = Buffer.byteLength(line)
      let written: number
      try {
        written = writeSync(descriptor, line)
      } catch (error) {
        throw failed(error)
      }
      try {
        // Nobody else writes this file: what was cut short can be taken back, and the chain stays whole.
        if (written !== bytes) ftruncateSync(descriptor, size)
        else if (durable) fdatasyncSync(descriptor)
      } catch (error) {
        // There is something in the file that no caller was promised, and the next record would not follow it.
        throw (dead = failed(error))
      }
      if (written !== bytes) throw failed(new Error(`no space left (${written} of ${bytes} bytes)`))
      // A file without a name takes every write, and nobody will ever read it.
      if (fstatSync(descriptor).nlink === 0) throw (dead = removed(path))
      size += bytes
    },
    close: () => closeSync(descriptor),
  }
}

function removed(path: string): HoldfastError {
  return new HoldfastError(
    'ERR_STORE',
    `The audit chain ${path} was removed while in use: what happened up to now is on record nowhere. Nothing may run without it: close this kernel, and open another one on a data directory that stays.`,
  )
}

/** Makes the name of a new file survive a power cut too. */
function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
