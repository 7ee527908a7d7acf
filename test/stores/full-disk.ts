// A process that fills the disk of its store, gets room again and goes on. Run by file-trouble.test.ts:
//
//   node full-disk.ts <directory> <command that makes room>
//
// SEGMENT_BYTES in the environment makes the store rotate that often.
//
// Prints what it was told and what is there, as JSON.

import { execFileSync } from 'node:child_process'
import { HoldfastError } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import { groupCommits } from '../../src/stores/group.ts'

const [directory, makeRoom] = process.argv.slice(2) as [string, string]
const CALLERS = 4
const VALUE = 'x'.repeat(3_000)

const failures: Record<string, number> = {}
let acknowledged = 0
let commits = 0
const options = process.env['SEGMENT_BYTES'] === undefined ? {} : { segmentBytes: Number(process.env['SEGMENT_BYTES']) }
let store = fileStore(directory, options)
let committer = groupCommits(store)

async function attempt(): Promise<void> {
  const id = `${commits++}`
  try {
    const { outcome } = await committer.commit({ id, add: [{ key: 'n', by: 1 }], set: [{ key: `k/${id}`, value: VALUE }] })
    if (outcome === 'ok') acknowledged += 1
    else failures[outcome] = (failures[outcome] ?? 0) + 1
  } catch (error) {
    if (!HoldfastError.isInstance(error)) throw error
    const kind = `${error.code}: ${/\d+ of \d+ bytes were written/.test(error.message) ? 'short' : 'nothing'}`
    failures[kind] = (failures[kind] ?? 0) + 1
  }
}

async function attempts(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) await Promise.all(Array.from({ length: CALLERS }, attempt))
}

async function counted(): Promise<unknown> {
  return { n: (await store.read(['n']))[0]?.value, keys: (await store.list('k/', { limit: 10_000 })).length }
}

await attempts(100)
const whenFull = { acknowledged, failures: { ...failures }, found: await counted() }
execFileSync('/bin/sh', ['-c', makeRoom], { env: { ...process.env, TARGET: String(process.pid) }, stdio: 'inherit' })
await attempts(20)
const found = await counted()
await store.close()
store = fileStore(directory, options)
committer = groupCommits(store)
const reopened = await counted()
await attempts(1)
process.stdout.write(JSON.stringify({ whenFull, acknowledged: acknowledged - CALLERS, failures, found, reopened, after: await counted() }))
await store.close()
