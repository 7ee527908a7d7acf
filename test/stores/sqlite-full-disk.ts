// A process that fills the disk of its SQLite store, gets room again and goes on. Run by sqlite-trouble.test.ts:
//
//   node sqlite-full-disk.ts <directory> <file to remove for room>
//
// Prints what it was told and what is there, as JSON.

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '../../src/lib/errors.ts'
import { groupCommits } from '../../src/stores/group.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'

const [directory, filler] = process.argv.slice(2) as [string, string]
const store = sqliteStore(join(directory, 'state.db'))
const committer = groupCommits(store)
const told: Record<string, number> = {}
let commits = 0

async function attempts(count: number): Promise<void> {
  for (let attempt = 0; attempt < count; attempt++) {
    const id = `${commits++}`
    const what = await committer.commit({ id, add: [{ key: 'n', by: 1 }], set: [{ key: `k/${id}`, value: 'x'.repeat(3_000) }] }).then(
      ({ outcome }) => outcome,
      (error: unknown) => (HoldfastError.isInstance(error) ? error.code : String(error)),
    )
    told[what] = (told[what] ?? 0) + 1
  }
}

async function counted(): Promise<unknown> {
  return { n: (await store.read(['n']))[0]?.value, keys: (await store.list('k/', { limit: 10_000 })).length }
}

await attempts(300)
const whenFull = { told: { ...told }, found: await counted() }
rmSync(filler)
await attempts(20)
const found = await counted()
await store.close()
process.stdout.write(JSON.stringify({ whenFull, told, found }))
