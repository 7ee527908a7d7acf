// One process on a file store whose every change of a file is counted: it commits, compacts and commits again, and
// ends, stops or tears its own write at one of those changes. Started by rotation.ts:
//
//   node file-rotator.ts <RotatorOptions as JSON>
//
// What it is about to commit and what it was told goes to a log, line by line, which survives SIGKILL.

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import type * as FileModule from '../../src/stores/file.ts'
import type * as GroupModule from '../../src/stores/group.ts'

/** Killed or stopped right after a change, stopped right before it, killed half-way through a write. */
export type Act = 'killed' | 'stopped' | 'stopped before' | 'torn'

/** What a rotator is told. */
export interface RotatorOptions {
  /** Where the sources of the store lie: the real ones, or ones that are wrong on purpose. */
  readonly source: string
  readonly directory: string
  readonly log: string
  /** What happens at the change with this number, from 1. @default nothing */
  readonly at?: { readonly change: number; readonly act: Act }
  /** Every change from that number on fails as on a full disk, until compaction has given up. */
  readonly fullFrom?: number
}

const options = JSON.parse(process.argv[2]!) as RotatorOptions
const { writeSync, openSync } = fs
const log = openSync(options.log, 'a')
const note = (line: string): void => {
  writeSync(log, `${line}\n`)
}

const CHANGES = [
  'openSync',
  'closeSync',
  'writeSync',
  'fsyncSync',
  'fdatasyncSync',
  'mkdirSync',
  'rmdirSync',
  'renameSync',
  'linkSync',
  'unlinkSync',
  'rmSync',
] as const
const run = { armed: false, changes: 0, full: false, hasStopped: false }
const table = fs as unknown as Record<string, (...args: unknown[]) => unknown>

function happen(name: string, args: unknown[]): void {
  if (!run.armed) return
  run.changes += 1
  note(`C ${name} ${typeof args[0] === 'string' ? args[0].split('/').at(-1) : ''}`)
  const { change, act } = options.at ?? {}
  if (change !== run.changes) return
  if (act === 'killed') process.kill(process.pid, 'SIGKILL')
  if (act === 'stopped') process.kill(process.pid, 'SIGSTOP')
}

function happenBefore(name: string, [descriptor, bytes]: unknown[]): void {
  if (!run.armed || options.at?.change !== run.changes + 1) return
  // A sync in a thread is counted when it has ended; other changes may begin before that.
  if (options.at.act === 'stopped before' && !run.hasStopped) {
    run.hasStopped = true
    process.kill(process.pid, 'SIGSTOP')
  }
  if (options.at.act !== 'torn' || name !== 'writeSync') return
  writeSync(descriptor as number, (bytes as Buffer).subarray(0, (bytes as Buffer).length / 2))
  process.kill(process.pid, 'SIGKILL')
}

for (const name of CHANGES) {
  const real = table[name]!
  table[name] = (...args) => {
    if (run.full && (name === 'openSync' ? args[1] !== 'r' : /write|mkdir|rename/.test(name)))
      throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
    happenBefore(name, args)
    const result = real(...args)
    happen(name, args)
    if (run.armed && run.changes === options.fullFrom) run.full = true
    return result
  }
}
for (const name of ['fsync', 'fdatasync']) {
  const real = table[name]!
  table[name] = (descriptor, done) => {
    happenBefore(name, [])
    return real(descriptor, (error: unknown) => {
      happen(name, [])
      ;(done as (error: unknown) => void)(error)
    })
  }
}
syncBuiltinESMExports()

const { fileStore } = (await import(join(options.source, 'stores/file.ts'))) as typeof FileModule
const { groupCommits } = (await import(join(options.source, 'stores/group.ts'))) as typeof GroupModule
const store = fileStore(options.directory, { segmentBytes: 1_000_000 })
const committer = groupCommits(store)

async function commit(times: number): Promise<void> {
  for (let count = 0; count < times; count++) {
    note('I')
    const { outcome } = await committer.commit({
      add: [
        { key: 'n/all', by: 1 },
        { key: 'n/rotator', by: 1 },
      ],
    })
    if (outcome === 'ok') note('A')
    else note(`E ${outcome}`)
  }
}

process.on('disconnect', () => process.exit(2))
try {
  await commit(2)
  run.armed = true
  await commit(1)
  try {
    await store.compact()
    note('compacted')
  } catch (error) {
    note(`F ${(error as { code: string }).code}`)
  }
  run.full = false
  await commit(3)
  run.armed = false
  await store.close()
  note('done')
} catch (error) {
  note(`E ${(error as Error).stack?.replaceAll('\n', ' ')}`)
}
process.exit(0)
