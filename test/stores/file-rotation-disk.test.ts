// Rotation on disks that fill up or fail: a real small one, with room again later, and one that says once that it
// could not write what was sealed.

import { execFileSync, spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryDirectory } from './journal.ts'

interface Found {
  readonly n: number
  readonly keys: number
}

interface DiskReport {
  readonly whenFull: { readonly acknowledged: number; readonly failures: Record<string, number>; readonly found: Found }
  readonly acknowledged: number
  readonly failures: Record<string, number>
  readonly found: Found
  readonly reopened: Found
  readonly after: Found
}

/** Flags with which this machine lets a test mount something, if it does. */
const mounting = [['--user', '--map-root-user', '--mount'], ['--mount']].find(
  (flags) => spawnSync('unshare', [...flags, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()]).status === 0,
)

test.runIf(mounting !== undefined)(
  'a store that rotates all the time on a disk of 1 MB fails definitely when it is full, and goes on with room again',
  () => {
    const env = {
      ...process.env,
      DISK: temporaryDirectory(),
      NODE: process.execPath,
      CHILD: join(import.meta.dirname, 'full-disk.ts'),
      SEGMENT_BYTES: '20000',
    }
    const mount = 'mount -t tmpfs -o size=1m tmpfs "$DISK" && head -c 600000 /dev/zero > "$DISK/filler"'
    const script = `${mount} && exec "$NODE" "$CHILD" "$DISK" 'rm "$DISK/filler"; mount -o remount,size=20m "$DISK"'`
    const report = JSON.parse(execFileSync('unshare', [...mounting!, 'sh', '-c', script], { encoding: 'utf8', env })) as DiskReport
    const { whenFull, acknowledged, failures, found, reopened, after } = report
    expect(whenFull.acknowledged).toBeGreaterThan(0)
    expect(Object.keys(failures).filter((kind) => !kind.startsWith('ERR_STORE_FULL'))).toEqual([])
    expect(failures).toEqual(whenFull.failures)
    expect(whenFull.found).toEqual({ n: whenFull.acknowledged, keys: whenFull.acknowledged })
    expect(acknowledged).toBe(whenFull.acknowledged + 80)
    expect(found).toEqual({ n: acknowledged, keys: acknowledged })
    expect(reopened).toEqual(found)
    expect(after).toEqual({ n: acknowledged + 4, keys: acknowledged + 4 })
  },
)

test.each([
  ['in place, by whoever goes on in the next segment', 'fdatasyncSync'],
  ['in a thread, by the commit itself', 'fdatasync'],
])('a sealed segment that could not be synced (%s) leaves its last commit unknown, and the store frozen', (_, broken) => {
  const script = `
    import fs from 'node:fs'
    import { syncBuiltinESMExports } from 'node:module'
    const real = { fdatasync: fs.fdatasync, fdatasyncSync: fs.fdatasyncSync }
    const run = { broken: false }
    const failure = () => Object.assign(new Error('EIO'), { code: 'EIO' })
    // Slow, so that no commit is synced in place: what is synced in place is a segment that was sealed.
    fs.fdatasync = (descriptor, done) => real.fdatasync(descriptor, (error) =>
      setTimeout(() => done(run.broken && '${broken}' === 'fdatasync' ? failure() : error), run.broken ? 500 : 20))
    fs.fdatasyncSync = (descriptor) => {
      if (run.broken && '${broken}' === 'fdatasyncSync') throw failure()
      real.fdatasyncSync(descriptor)
    }
    syncBuiltinESMExports()
    const { fileStore } = await import(${JSON.stringify(new URL('../../src/stores/file.ts', import.meta.url).href)})
    const store = fileStore(process.argv[1])
    const other = fileStore(process.argv[1], { durability: 'os' })
    const set = async (key) => (await store.apply([{ set: [{ key, value: 1 }] }])).outcome
    const outcomes = [await set('a/0')]
    run.broken = true
    // Its line is accepted and its sync under way when the segment is sealed, and this process goes on in the next one.
    const first = set('a/1')
    other.compact().catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 50))
    await store.read(['a/1']).catch(() => {})
    const second = set('a/2').catch((error) => error.code)
    outcomes.push(await first, await second, await set('a/3').catch((error) => error.code))
    process.stdout.write(JSON.stringify(outcomes))
    process.exit(0)`
  const args = ['--input-type=module', '-e', script, temporaryDirectory()]
  const outcomes = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as string[]
  expect(outcomes[0]).toBe('applied')
  expect(outcomes[1]).toBe('unknown')
  expect(outcomes[2]).not.toBe('applied')
  expect(outcomes[3]).toBe('ERR_STORE')
})
