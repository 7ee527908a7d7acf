// One process of many on one store: callers that add and check-and-set until they are done, told to stop, or
// killed. Each notes in a log what it is about to send, and what it was told; a line of the log is one write
// with O_APPEND, which survives SIGKILL. Started by processes.ts:
//
//   node committer.ts <CommitterOptions as JSON>

import { closeSync, openSync, writeSync } from 'node:fs'
import { sleep } from '../../src/lib/clock.ts'
import { HoldfastError } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { groupCommits, type Commit, type CommitResult } from '../../src/stores/group.ts'
import type { Entry } from '../../src/stores/store.ts'
import { seededRandom } from '../../src/testing/faulty-store.ts'
import { openAnyKind, type StoreKind } from './store-kinds.ts'

/** What a committer is told. */
export interface CommitterOptions {
  readonly kind: StoreKind
  readonly directory: string
  readonly log: string
  /** Unique among all processes that ever used the store. */
  readonly name: string
  readonly seed: number
  readonly callers: number
  /** Commits of each caller. */
  readonly commits: number
  /** Share of commits that check and set instead of adding. */
  readonly checkShare: number
  /** Longest pause between two commits of a caller. */
  readonly pauseMs: number
  /** Of a file store: how long a segment may grow. @default as the store has it */
  readonly segmentBytes?: number
}

/** A committer ends by itself after this long, whatever happens to its parent. */
const MAX_LIFE_MS = 60_000

async function work(options: CommitterOptions): Promise<void> {
  const { kind, directory, log, name, seed, callers, commits, checkShare, pauseMs, segmentBytes } = options
  const store = segmentBytes === undefined ? await openAnyKind(kind, directory) : fileStore(directory, { segmentBytes })
  const committer = groupCommits(store)
  const descriptor = openSync(log, 'a')
  const note = (what: 'I' | 'A', kindOfCommit: 'add' | 'set', uid: string): void => {
    writeSync(descriptor, `${what} ${kindOfCommit} ${uid}\n`)
  }
  const told = { toStop: false }
  process.on('message', (message) => (told.toStop ||= message === 'stop'))

  async function add(uid: string, commit: Partial<Commit>): Promise<CommitResult> {
    const count = [
      { key: 'counter', by: 1 },
      { key: `done/${uid}`, by: 1 },
    ]
    return committer.commit({ ...commit, add: count })
  }

  /** Counts `checked` up by reading it and setting it, in the way that loses updates where checks do not hold. */
  async function checkAndSet(uid: string): Promise<CommitResult> {
    for (;;) {
      const entry = await readChecked()
      const result = await committer.commit({
        check: [{ key: 'checked', version: entry?.version ?? 0 }],
        set: [{ key: 'checked', value: Number(entry?.value ?? 0) + 1 }],
        add: [{ key: `done/${uid}`, by: 1 }],
      })
      if (result.outcome !== 'conflict') return result
      await sleep(Math.random() * 3)
    }
  }

  /** A server that is being started again answers no read; nothing has happened then, and nothing is claimed. */
  async function readChecked(): Promise<Entry | null | undefined> {
    for (;;) {
      try {
        return (await store.read(['checked']))[0]
      } catch (error) {
        if (!HoldfastError.isInstance(error) || error.code !== 'ERR_STORE') throw error
        await sleep(20)
      }
    }
  }

  async function caller(index: number): Promise<void> {
    const random = seededRandom(seed * 100 + index)
    for (let count = 0; count < commits && !told.toStop; count++) {
      const uid = `${name}.${index}.${count}`
      const kindOfCommit = random() < checkShare ? 'set' : 'add'
      note('I', kindOfCommit, uid)
      const result = await (kindOfCommit === 'set' ? checkAndSet(uid) : add(uid, random() < 0.3 ? { id: uid } : {}))
      if (result.outcome === 'ok') note('A', kindOfCommit, uid)
      else if (result.outcome !== 'unknown') throw new Error(`Unexpected result ${JSON.stringify(result)}`)
      if (pauseMs > 0) await sleep(random() * pauseMs)
    }
  }

  process.send?.('ready')
  await new Promise<void>((resolve) => process.once('message', () => resolve()))
  await Promise.all(Array.from({ length: callers }, (_, index) => caller(index)))
  await committer.idle()
  await store.close()
  closeSync(descriptor)
}

// The channel to the parent ends with the parent, however it dies.
process.on('disconnect', () => process.exit(2))
setTimeout(() => process.exit(3), MAX_LIFE_MS).unref()
const options = JSON.parse(process.argv[2]!) as CommitterOptions
try {
  await work(options)
  process.exit(0)
} catch (error) {
  writeSync(openSync(options.log, 'a'), `E ${(error as Error).stack?.replaceAll('\n', ' ')}\n`)
  process.exit(1)
}
