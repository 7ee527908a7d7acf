// The file store in a world that does not keep still: directories that are removed, moved, read-only or not
// local, disks that fill up, segments that are full, and folders written by somebody else. Real ones: a child
// with another user id, a small tmpfs, a file size limit.

import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { fileStore, MAX_SEGMENT_BYTES, MAX_SEGMENT_LINES } from '../../src/stores/file.ts'
import { createFold } from '../../src/stores/journal/fold.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import { times } from '../../src/testing/store-bench.ts'
import { buildJournal, contentOf, countingBatch, countOf, emptyStore, openStore, segmentOf, temporaryDirectory } from './journal.ts'

const ADD = { add: [{ key: 'k/n', by: 1 }] }
const EXT4 = 0xef53
const NFS = 0x6969

describe('a directory', () => {
  test.each([
    ['removed', async (directory: string) => rmSync(directory, { recursive: true })],
    ['emptied of its segment', async (directory: string) => rmSync(segmentOf(directory))],
    [
      'replaced by another store',
      async (directory: string) => {
        rmSync(directory, { recursive: true })
        await emptyStore(directory)
      },
    ],
  ])('that was %s while in use freezes the store', async (_, remove) => {
    const { directory, file } = await buildJournal(3)
    const store = openStore(directory)
    await remove(directory)
    const removed = { code: 'ERR_STORE', message: `${file} was removed while in use. The store is frozen.` }
    for (const use of [() => store.apply([ADD]), () => store.read(['k/n']), () => store.now()])
      await expect(use()).rejects.toMatchObject(removed)
  })

  test('that was moved while in use goes on where it is, old lines included', async () => {
    const journal = await buildJournal(5_000)
    const store = openStore(journal.directory)
    const moved = join(temporaryDirectory(), 'moved')
    renameSync(journal.directory, moved)
    const late = encodeLine({ previous: journal.lines[5]!.head.hash, writer: 'late:1', timeMs: 1, batches: [ADD] })
    appendFileSync(segmentOf(moved), `${late.text}\n`)
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'applied' })
    expect(await countOf(openStore(moved))).toBe(5_001)
    rmSync(moved, { recursive: true })
  })

  test('in the place of a segment cannot be read, and freezes the fold with the error that came first', () => {
    const descriptor = openSync(temporaryDirectory(), 'r')
    const fold = createFold({ file: 'F', descriptor, storeId: 'A'.repeat(43), onLine: () => {}, onChange: () => {} })
    const frozen = {
      code: 'ERR_STORE',
      message: 'F cannot be read. The store is frozen.',
      cause: expect.objectContaining({ code: 'EISDIR' }),
    }
    expect(() => fold.readOn()).toThrow(expect.objectContaining(frozen))
    closeSync(descriptor)
    expect(() => fold.readOn()).toThrow(expect.objectContaining(frozen))
  })

  test('that is a file, or lies below one, is refused', () => {
    const file = join(temporaryDirectory(), 'file')
    writeFileSync(file, '')
    for (const directory of [file, join(file, 'below')]) {
      expect(() => fileStore(directory)).toThrow(
        expect.objectContaining({ code: 'ERR_STORE', message: expect.stringContaining(directory) }),
      )
    }
  })
})

/** Opens the store of a directory as a user who owns nothing, and says what happened. */
function asNobody(directory: string): string {
  const script = `
    import { fileStore } from ${JSON.stringify(new URL('../../src/stores/file.ts', import.meta.url).href)}
    if (process.getuid() === 0) process.setuid(65534)
    try {
      const store = fileStore(process.argv[1])
      await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])
      process.stdout.write('opened')
    } catch (error) {
      process.stdout.write(error.code + ' ' + error.message)
    }`
  return execFileSync(process.execPath, ['--input-type=module', '-e', script, directory], { encoding: 'utf8' })
}

describe('a user without the right to write', () => {
  test('gets a clear error where no store can be made', () => {
    const directory = temporaryDirectory()
    chmodSync(directory, 0o555)
    expect(asNobody(directory)).toMatch(/^ERR_STORE .*\/store cannot be used as a file store: EACCES/)
  })

  test('gets a clear error where the store is another user’s, and may use it when allowed', async () => {
    const { directory, file } = await buildJournal(3)
    chmodSync(directory, 0o755)
    chmodSync(file, 0o444)
    expect(asNobody(directory)).toMatch(new RegExp(`^ERR_STORE ${file} cannot be opened for writing: EACCES`))
    chmodSync(file, 0o666)
    expect(asNobody(directory)).toBe('opened')
    expect(await countOf(openStore(directory))).toBe(4)
  })
})

test('a line that lacks nothing but its newline is unknown, and counts once the next commit has put that there', () => {
  const script = `
    import { execFileSync } from 'node:child_process'
    import { statSync } from 'node:fs'
    import { fileStore } from ${JSON.stringify(new URL('../../src/stores/file.ts', import.meta.url).href)}
    const [directory, file] = process.argv.slice(1)
    const store = fileStore(directory, { durability: 'os', clock: { now: () => 1_700_000_000_000 } })
    const add = async () => (await store.apply([{ add: [{ key: 'k/n', by: 1 }] }])).outcome
    const limit = (bytes) => execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=' + bytes + ':'])
    const outcomes = [await add()]
    const { size } = statSync(file)
    limit(2 * size - 1)
    outcomes.push(await add())
    const found = [(await store.read(['k/n']))[0].value]
    limit('unlimited')
    outcomes.push(await add(), await add())
    found.push((await store.read(['k/n']))[0].value)
    process.stdout.write(JSON.stringify({ outcomes, found }))`
  const directory = temporaryDirectory()
  const args = ['--input-type=module', '-e', script, directory, segmentOf(directory)]
  const report: unknown = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
  // The third add finds the line of the second one completed, and itself too late.
  expect(report).toEqual({ outcomes: ['applied', 'unknown', 'contended', 'applied'], found: [1, 3] })
})

test('a line that lacks nothing but its newline is settled before its writer is told anything else, a refusal too', () => {
  const script = `
    import { execFileSync } from 'node:child_process'
    import { statSync } from 'node:fs'
    import { fileStore } from ${JSON.stringify(new URL('../../src/stores/file.ts', import.meta.url).href)}
    const [directory, file] = process.argv.slice(1)
    const store = fileStore(directory, { durability: 'os', clock: { now: () => 1_700_000_000_000 } })
    const apply = async (batch) => { const { outcome, results } = await store.apply([batch]); return results?.[0] ?? outcome }
    const add = { add: [{ key: 'k/n', by: 1 }] }
    const limit = (bytes) => execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=' + bytes + ':'])
    const answers = [await apply(add)]
    const { size } = statSync(file)
    limit(2 * size - 1)
    answers.push(await apply(add))
    limit('unlimited')
    const refused = { check: [{ key: 'k/none', version: 9 }] }
    answers.push(await apply(refused), await apply(refused))
    const found = [(await store.read(['k/n']))[0].value, statSync(file).size]
    answers.push(await apply(refused))
    found.push((await store.read(['k/n']))[0].value, statSync(file).size)
    process.stdout.write(JSON.stringify({ answers, found }))`
  const directory = temporaryDirectory()
  const args = ['--input-type=module', '-e', script, directory, segmentOf(directory)]
  const { answers, found } = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as {
    answers: unknown[]
    found: unknown[]
  }
  const conflict = { outcome: 'conflict', which: 'k/none', version: 0 }
  expect(answers).toEqual([{ outcome: 'ok', version: 1, values: [1] }, 'unknown', 'contended', conflict, conflict])
  // Nothing is written any more for what is settled.
  expect(found).toEqual([2, found[1], 2, found[1]])
})

test('of two groups whose syncs would run at once, none is acknowledged when the disk fails, though it says so once', () => {
  const script = `
    import fs from 'node:fs'
    import { syncBuiltinESMExports } from 'node:module'
    const real = fs.fdatasync
    let failures = 0
    fs.fdatasync = (descriptor, done) => {
      // Slow, so that no sync is made in place; the failure is reported to the first sync after the first commit.
      if (failures === 0) return real(descriptor, () => setTimeout(done, 5))
      setTimeout(() => done(failures++ === 1 ? Object.assign(new Error('EIO'), { code: 'EIO' }) : null), 5)
    }
    syncBuiltinESMExports()
    const { fileStore } = await import(${JSON.stringify(new URL('../../src/stores/file.ts', import.meta.url).href)})
    const store = fileStore(process.argv[1])
    const set = async (key) => (await store.apply([{ set: [{ key, value: 1 }] }])).outcome
    const outcomes = [await set('a/0')]
    failures = 1
    outcomes.push(...(await Promise.all([set('a/1'), set('a/2')])))
    outcomes.push(await set('a/3').catch((error) => error.code))
    process.stdout.write(JSON.stringify(outcomes))`
  const args = ['--input-type=module', '-e', script, temporaryDirectory()]
  const outcomes: unknown = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
  expect(outcomes).toEqual(['applied', 'unknown', 'unknown', 'ERR_STORE'])
})

interface DiskReport {
  readonly whenFull: { readonly acknowledged: number; readonly failures: Record<string, number>; readonly found: unknown }
  readonly acknowledged: number
  readonly failures: Record<string, number>
  readonly found: unknown
  readonly reopened: unknown
  readonly after: unknown
}

type SmallDisk = readonly [what: string, command: string, args: readonly string[]]

/** The ways to a small disk that this machine permits. */
function smallDisks(): readonly SmallDisk[] {
  // Node ignores SIGXFSZ, so that the limit shows as EFBIG, after a short write.
  const limit = 'ulimit -S -f 512 && exec "$NODE" "$CHILD" "$DISK" \'prlimit --pid "$TARGET" --fsize=unlimited:\''
  const limited: SmallDisk = ['a file size limit of 256 kB', 'sh', ['-c', limit]]
  // Mounting needs a user namespace or root.
  const mount = 'mount -t tmpfs -o size=1m tmpfs "$DISK" && head -c 600000 /dev/zero > "$DISK/filler"'
  const tmpfs = `${mount} && exec "$NODE" "$CHILD" "$DISK" 'rm "$DISK/filler"'`
  for (const flags of [['--user', '--map-root-user', '--mount'], ['--mount']]) {
    if (spawnSync('unshare', [...flags, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()]).status !== 0) continue
    return [limited, ['a tmpfs of 1 MB', 'unshare', [...flags, 'sh', '-c', tmpfs]]]
  }
  return [limited]
}

test.each(smallDisks())('on a full disk commits fail definitely, and with room again later ones are exact (%s)', (_, command, args) => {
  const env = { ...process.env, DISK: temporaryDirectory(), NODE: process.execPath, CHILD: join(import.meta.dirname, 'full-disk.ts') }
  const report = JSON.parse(execFileSync(command, args, { encoding: 'utf8', env })) as DiskReport
  const { whenFull, acknowledged, failures, found, reopened, after } = report
  expect(whenFull.acknowledged).toBeGreaterThan(0)
  // Every failure says for certain that nothing was committed, and nothing fails once there is room again.
  expect(Object.keys(failures).sort()).toEqual(['ERR_STORE_FULL: nothing', 'ERR_STORE_FULL: short'])
  expect(failures).toEqual(whenFull.failures)
  expect(whenFull.acknowledged + failures['ERR_STORE_FULL: nothing']! + failures['ERR_STORE_FULL: short']!).toBe(400)
  expect(whenFull.found).toEqual({ n: whenFull.acknowledged, keys: whenFull.acknowledged })
  expect(acknowledged).toBe(whenFull.acknowledged + 80)
  expect(found).toEqual({ n: acknowledged, keys: acknowledged })
  expect(reopened).toEqual(found)
  expect(after).toEqual({ n: acknowledged + 4, keys: acknowledged + 4 })
})

describe('a full segment of a store that is told not to seal it', () => {
  const segmentBytes = Infinity
  const full = expect.objectContaining({
    code: 'ERR_STORE_FULL',
    message: expect.stringContaining(`limit of ${MAX_SEGMENT_LINES} lines or ${MAX_SEGMENT_BYTES} bytes`),
  })

  test('of 200,000 lines refuses more with an error that names the limit, and can be read', async () => {
    const { directory } = await buildJournal(MAX_SEGMENT_LINES - 1, () => ADD)
    const store = openStore(directory, { segmentBytes })
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'applied', results: [{ values: [MAX_SEGMENT_LINES] }] })
    await expect(store.apply([ADD])).rejects.toEqual(full)
    expect(await store.apply([{ check: [{ key: 'k/n', version: 1 }] }])).toMatchObject({ results: [{ outcome: 'conflict' }] })
    expect(await countOf(store)).toBe(MAX_SEGMENT_LINES)
    expect(await countOf(openStore(directory))).toBe(MAX_SEGMENT_LINES)
    // With rotation it goes on.
    const rotating = openStore(directory)
    for (const more of [1, 2]) expect(await rotating.apply([ADD])).toMatchObject({ results: [{ values: [MAX_SEGMENT_LINES + more] }] })
    expect(await rotating.apply([ADD])).toMatchObject({ head: { segment: 2 } })
  })

  test('of 64 MiB refuses more with an error that names the limit, and can be read', async () => {
    const large = { ...ADD, set: [{ key: 'k/large', value: 'x'.repeat(1_048_000) }] }
    const { directory } = await buildJournal(63, () => large)
    const store = openStore(directory, { segmentBytes })
    for (const count of [64, 65]) expect(await store.apply([large])).toMatchObject({ results: [{ values: [count] }] })
    await expect(store.apply([ADD])).rejects.toEqual(full)
    expect(await countOf(store)).toBe(65)
  })
})

describe('a file system', () => {
  const NETWORK = [
    NFS,
    0x517b,
    0xff534d42,
    0xfe534d42,
    0x65735546,
    0x01021997,
    0x5346414f,
    0x00c36400,
    0x47504653,
    0x0bd00bd0,
    0x786f4256,
    0x7461636f,
    0x01161970,
  ]

  test.each(NETWORK)('of the network or FUSE (type %i) is refused, with what to do, before anything is written', (type) => {
    const directory = temporaryDirectory()
    expect(() => fileStore(directory, { fileSystemType: () => type })).toThrow(
      expect.objectContaining({
        code: 'ERR_STORE',
        message: expect.stringMatching(/not known to append whole lines.*unsafeFileSystem: true/),
      }),
    )
    expect(readdirSync(join(directory, 'store'))).toEqual([])
  })

  test('that nobody knows is refused by its number', () => {
    expect(() => fileStore(temporaryDirectory(), { fileSystemType: () => 0xabcdef })).toThrow(/of unknown type 0xabcdef/)
  })

  test.each([EXT4, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1, 0x1a])('that is local (type %i) is taken', async (type) => {
    expect(await openStore(temporaryDirectory(), { fileSystemType: () => type }).apply([ADD])).toMatchObject({ outcome: 'applied' })
  })

  test('is asked about the directory of the store, and not at all with the override', async () => {
    const asked: string[] = []
    const fileSystemType = (directory: string): number => {
      asked.push(directory)
      return asked.length === 1 ? EXT4 : NFS
    }
    const directory = temporaryDirectory()
    openStore(directory, { fileSystemType })
    expect(asked).toEqual([join(directory, 'store')])
    expect(() => fileStore(directory, { fileSystemType })).toThrow(/NFS/)
    const store = openStore(directory, { fileSystemType, unsafeFileSystem: true })
    expect(await store.apply([ADD])).toMatchObject({ outcome: 'applied' })
    expect(asked.length).toBe(2)
  })
})

describe('a folder of somebody else', () => {
  const ID = 'A'.repeat(43)

  test.each([
    [{ format: 2, id: ID }, 'ERR_STORE', /has format 2; this version of holdfast reads up to 1\. Install a later one/],
    [{ format: 1 }, 'ERR_DAMAGE', /does not name a format and a store id/],
    [{ format: 1, id: 'short' }, 'ERR_DAMAGE', /does not name a format and a store id/],
    [{ format: '1', id: ID }, 'ERR_DAMAGE', /does not name a format and a store id/],
    [{ id: ID }, 'ERR_DAMAGE', /does not name a format and a store id/],
  ])('with the store.json %j is refused', async (content, code, message) => {
    const { directory } = await buildJournal(3)
    writeFileSync(join(directory, 'store', 'store.json'), JSON.stringify(content))
    expect(() => fileStore(directory)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
  })

  test('with a store.json that is no JSON is refused', async () => {
    const { directory } = await buildJournal(3)
    writeFileSync(join(directory, 'store', 'store.json'), '{"format":1,"id"')
    expect(() => fileStore(directory)).toThrow(
      expect.objectContaining({ code: 'ERR_DAMAGE', message: expect.stringMatching(/is not JSON/) }),
    )
  })

  test('with the identity of another store is damage from the first line on', async () => {
    const { directory, file } = await buildJournal(3)
    writeFileSync(join(directory, 'store', 'store.json'), JSON.stringify({ format: 1, id: ID }))
    expect(() => fileStore(directory)).toThrow(
      expect.objectContaining({ code: 'ERR_DAMAGE', message: expect.stringContaining(`${file} line 1 `) }),
    )
  })

  test.each([
    ['trimmed', /is incomplete.*no snapshot has its segment/],
    ['s-000000000001-000000000900-x', /is incomplete.*was made of lines that are not in the journal/],
    ['s-000000000002-000000000100-x', /is incomplete.*was made of lines that are not in the journal/],
    ['g-000000000002', /is incomplete.*g-000000000002 is there, and .*g-000000000001 has no seal/],
    ['g-000000000010', /is incomplete/],
    ['g-000000000123', /is incomplete/],
  ])('with the file %s and nothing that goes with it is a partial copy', async (name, message) => {
    const { directory } = await buildJournal(3)
    writeFileSync(join(directory, 'store', name), '')
    expect(() => fileStore(directory)).toThrow(expect.objectContaining({ code: 'ERR_DAMAGE', message: expect.stringMatching(message) }))
  })

  test('with files that mean nothing to a store opens', async () => {
    const { directory } = await buildJournal(3)
    for (const name of ['tmp-abc', 'README', '.DS_Store', 'store.json.bak', 's-1', 'g-2', 'g-0000000000020'])
      writeFileSync(join(directory, 'store', name), 'x')
    expect(await countOf(openStore(directory))).toBe(3)
  })

  test('with a seal goes on in the next segment, with one that came too late in this one, and one that names another is damage', async () => {
    const journal = await buildJournal(3)
    const whole = contentOf(journal).toString()
    const seal = (previous: string, seal: number): void => {
      const { text } = encodeLine({ previous, writer: 'other:1', timeMs: 1, batches: [], seal })
      writeFileSync(journal.file, `${whole}${text}\nwhat follows a seal is not even read`)
    }
    seal(journal.lines[2]!.head.hash, 3)
    expect(() => fileStore(journal.directory)).toThrow(
      expect.objectContaining({ code: 'ERR_DAMAGE', message: expect.stringMatching(/line 4 is damaged: it seals segment 1 and names 3/) }),
    )
    seal(journal.lines[2]!.head.hash, 2)
    expect(await openStore(journal.directory).apply([ADD])).toMatchObject({ results: [{ values: [4] }], head: { segment: 2 } })
    const late = await buildJournal(3)
    appendFileSync(
      late.file,
      `${encodeLine({ previous: late.lines[1]!.head.hash, writer: 'o:1', timeMs: 1, batches: [], seal: 2 }).text}\n`,
    )
    expect(await openStore(late.directory).apply([ADD])).toMatchObject({ results: [{ values: [4] }], head: { segment: 1 } })
  })
})

describe('opening and closing', () => {
  test('a store that is opened many times at once is one store', async () => {
    const directory = join(temporaryDirectory(), 'deep', 'er')
    mkdirSync(join(directory, '..'), { recursive: true })
    const stores = times(20, () => openStore(directory))
    expect(new Set(stores.map(({ id }) => id)).size).toBe(1)
    await Promise.all(stores.map(async (store) => store.apply([countingBatch(0)])))
    expect(readdirSync(join(directory, 'store')).sort()).toEqual(['g-000000000001', 'store.json'])
    expect(JSON.parse(readFileSync(join(directory, 'store', 'store.json'), 'utf8'))).toEqual({ format: 1, id: stores[0]!.id })
  })

  test('closing waits for a sync that is under way, so that its commit is answered', async () => {
    for (const _ of times(30, () => 0)) {
      const store = fileStore(temporaryDirectory(), { durability: 'fsync' })
      const applied = store.apply([ADD])
      const closed = store.close()
      expect((await applied).outcome).toBe('applied')
      await closed
    }
  })
})
