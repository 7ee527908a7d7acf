// The chain file: its format to the byte, that a record is on disk when `append` returns, that what could not be
// written is no part of it, and that after its end nothing is written anywhere.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openChain, type Chain } from '../../src/audit/chain.ts'
import { decodeRecord, encodeRecord } from '../../src/audit/record.ts'
import { verifyChain } from '../../src/audit/verify.ts'
import { settableClock } from '../../src/testing/store-bench.ts'
import { chainFile, headOf, linesOf, recordsOf, temporaryDirectory } from './chains.ts'

const STORE_HEAD = { segment: 1, bytes: 300, hash: 'x' }

/** The hash of a record by the words of its format, with nothing of ours. */
function hashOf(body: string): string {
  return createHash('sha256').update(`holdfast/audit/v1\n${body}`, 'utf8').digest('base64url')
}

function openIn(directory: string | undefined, boot = 'boot'): Chain {
  const chain = openChain({ boot, clock: settableClock(), durable: false, ...(directory === undefined ? {} : { directory }) })
  onTestFinished(() => chain.close(true))
  return chain
}

describe('the format', () => {
  test('of two records is this one, to the byte', () => {
    const directory = temporaryDirectory()
    const chain = openIn(directory, 'golden')
    chain.append('open', { version: '0.1.0', host: 'h\u00f6st', storeId: 'abc', pid: 7 })
    chain.append('intent', { hold: 'H', amounts: { usd: 1_500_000_000, calls: 1 }, resource: 'tab\t"\u{1f916}"', budget: 'acme' })
    const one =
      '{"chain":"golden","host":"h\u00f6st","kind":"open","pid":7,"prev":"golden","seq":0,"storeId":"abc","t":1700000000000,"v":1,"version":"0.1.0"}'
    const two = `{"amounts":{"calls":1,"usd":1500000000},"budget":"acme","chain":"golden","hold":"H","kind":"intent","prev":"${hashOf(one)}","resource":"tab\\t\\"\u{1f916}\\"","seq":1,"t":1700000000000,"v":1}`
    const lines = [one, two].map((body) => `${body.slice(0, -1)},"h":"${hashOf(body)}"}`)
    expect(readFileSync(chainFile(directory, 'golden'), 'utf8')).toBe(`${lines.join('\n')}\n`)
    expect(chain.head()).toEqual({ count: 2, hash: hashOf(two) })
    // Computed once with sha256sum: no later version may write other hashes under v1.
    expect([hashOf(one), hashOf(two)]).toEqual([
      '_o8H52iJrJHXZX49p9A6O14MDWVpXa4K80BBO7C1STc',
      'zslmJfDNWjFOwXZjs4FOyo3GS_fmC9V7vOKdAzNLXEk',
    ])
  })

  test('is the same in memory', () => {
    const directory = temporaryDirectory()
    const [file, memory] = [openIn(directory), openIn(undefined)]
    for (const chain of [file, memory]) for (const index of [0, 1, 2]) chain.append('event', { index, text: '\u2028' })
    expect(memory.lines).toEqual(linesOf(directory, 'boot'))
    expect(file.lines).toEqual([])
  })

  test('has one way to write a record: what is read back is written the same', () => {
    const record = { v: 1, chain: 'c', seq: 0, prev: 'c', t: 1, kind: 'event', z: [1, { b: null, a: 1e21 }] } as const
    const { line, hash } = encodeRecord(record)
    expect(decodeRecord(line)).toEqual({ record, hash })
    expect(decodeRecord(Buffer.from(line))).toEqual({ record, hash })
    const frame = { kind: 'event', t: 1, prev: 'c', seq: 0, chain: 'c', v: 1 } as const
    expect(encodeRecord({ ...frame, z: [1, { a: 1e21, b: null }] }).line).toBe(line)
  })

  test('has its own fields, which a caller cannot set', () => {
    const chain = openIn(undefined)
    chain.append('event', { seq: 7, prev: 'x', chain: 'y', t: 1, v: 9 })
    expect(recordsOf(chain.lines)).toMatchObject([{ seq: 0, prev: 'boot', chain: 'boot', t: 1_700_000_000_000, v: 1, kind: 'event' }])
    for (const name of ['h', 'store'])
      expect(() => chain.append('event', { [name]: 'x' })).toThrow(`\`${name}\` is not a field of a caller`)
    expect(chain.head().count).toBe(1)
  })

  test.each([undefined, Number.NaN, 1n, new Date(0), '\ud800'])('takes no field %s, and the chain goes on without it', async (value) => {
    const chain = openIn(temporaryDirectory())
    expect(() => chain.append('event', { value: value as never })).toThrow(TypeError)
    chain.append('event', { value: 'well' })
    expect(chain.head().count).toBe(1)
  })
})

describe('append', () => {
  test('has written the record when it returns, each in one line, and the head is that record', async () => {
    const directory = temporaryDirectory()
    const chain = openIn(directory)
    for (let index = 0; index < 50; index++) {
      chain.append('event', { index })
      const lines = linesOf(directory, 'boot')
      expect(lines).toHaveLength(index + 1)
      expect(chain.head()).toEqual(headOf(lines))
    }
    expect(await verifyChain('boot', linesOf(directory, 'boot'), chain.head())).toEqual({
      chain: 'boot',
      ok: true,
      records: 50,
      beyondHead: 0,
    })
  })

  test('carries the newest store head that was noted, once', () => {
    const chain = openIn(undefined)
    chain.noteStoreHead(STORE_HEAD)
    chain.noteStoreHead({ ...STORE_HEAD, bytes: 600 })
    chain.append('event', {})
    chain.append('event', {})
    expect(recordsOf(chain.lines).map(({ store }) => store)).toEqual([{ ...STORE_HEAD, bytes: 600 }, undefined])
  })

  test('keeps the newest 10,000 records in memory, and at most a thousand more', () => {
    const chain = openIn(undefined)
    for (let index = 0; index < 11_005; index++) chain.append('event', { index })
    expect(chain.lines).toHaveLength(10_005)
    expect(recordsOf(chain.lines.slice(0, 1))).toMatchObject([{ seq: 1_000 }])
    expect(chain.head().count).toBe(11_005)
  })
})

describe('a store head that no record carries', () => {
  test('gets a record of its own: soon by itself in a file, with `flush` at once, and never twice', async () => {
    const directory = temporaryDirectory()
    const chain = openIn(directory)
    chain.noteStoreHead(STORE_HEAD)
    expect(linesOf(directory, 'boot')).toEqual([])
    for (let waited = 0; waited < 10_000 && linesOf(directory, 'boot').length === 0; waited += 20) await setTimeout(20)
    chain.flush()
    expect(recordsOf(linesOf(directory, 'boot'))).toMatchObject([{ kind: 'head', store: STORE_HEAD }])
    chain.noteStoreHead({ ...STORE_HEAD, bytes: 600 })
    chain.flush()
    chain.flush()
    expect(recordsOf(linesOf(directory, 'boot'))).toMatchObject([{ kind: 'head' }, { kind: 'head', store: { bytes: 600 } }])
  })
})

describe('a chain file', () => {
  test('is never opened twice: a second chain of the same name is refused', () => {
    const directory = temporaryDirectory()
    openIn(directory).append('event', {})
    expect(() => openIn(directory)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message: expect.stringContaining('EEXIST') }))
    expect(linesOf(directory, 'boot')).toHaveLength(1)
  })

  test('that cannot be made is ERR_STORE, naming the file', () => {
    const directory = temporaryDirectory()
    writeFileSync(join(directory, 'chains'), '')
    const message = expect.stringContaining(`The audit chain ${chainFile(directory, 'boot')} cannot be written`)
    expect(() => openIn(directory)).toThrow(expect.objectContaining({ code: 'ERR_STORE', message }))
  })

  test('that cannot be made by a user without the right to is ERR_STORE too', () => {
    const directory = temporaryDirectory()
    mkdirSync(join(directory, 'chains'))
    chmodSync(join(directory, 'chains'), 0o555)
    const script = `
      import { openChain } from ${JSON.stringify(new URL('../../src/audit/chain.ts', import.meta.url).href)}
      if (process.getuid() === 0) process.setuid(65534)
      try { openChain({ boot: 'boot', clock: { now: () => 0 }, directory: process.argv[1], durable: true }) }
      catch (error) { process.stdout.write(error.code + ' ' + error.cause.code) }`
    chmodSync(directory, 0o755)
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script, directory], { encoding: 'utf8' })).toBe('ERR_STORE EACCES')
  })

  test.each([false, true])('that was removed while in use takes no record any more, also when it is there again; synced: %s', (durable) => {
    const directory = temporaryDirectory()
    const chain = openChain({ boot: 'boot', clock: settableClock(), directory, durable })
    onTestFinished(() => chain.close(true))
    chain.append('event', { a: 1 })
    rmSync(directory, { recursive: true })
    const removed = expect.objectContaining({
      code: 'ERR_STORE',
      message: expect.stringMatching(/boot\.jsonl was removed while in use: .* open another one/),
    })
    expect(() => chain.append('event', { a: 2 })).toThrow(removed)
    mkdirSync(join(directory, 'chains'), { recursive: true })
    writeFileSync(chainFile(directory, 'boot'), '')
    expect(() => chain.append('event', { a: 3 })).toThrow(removed)
    expect(chain.head().count).toBe(1)
  })

  test('that was moved is written on, where it is', () => {
    const [directory, elsewhere] = [temporaryDirectory(), join(temporaryDirectory(), 'moved')]
    const chain = openIn(directory)
    chain.append('event', { a: 1 })
    renameSync(directory, elsewhere)
    chain.append('event', { a: 2 })
    expect(recordsOf(linesOf(elsewhere, 'boot'))).toMatchObject([{ a: 1 }, { a: 2 }])
  })

  test('that is synced for each record holds the same lines', () => {
    const directory = temporaryDirectory()
    const chain = openChain({ boot: 'boot', clock: settableClock(), directory, durable: true })
    chain.append('event', { a: 1 })
    chain.close(true)
    expect(recordsOf(linesOf(directory, 'boot'))).toMatchObject([{ a: 1 }])
  })
})

/** Opens files with the lowest free descriptors: what a process opens next, and so what a stale descriptor means. */
function victims(directory: string): { readonly files: readonly string[]; readonly descriptors: readonly number[] } {
  const files = [0, 1, 2, 3, 4, 5].map((index) => join(directory, `victim-${index}`))
  const descriptors = files.map((file) => openSync(file, 'w'))
  onTestFinished(() => descriptors.forEach((descriptor) => closeSync(descriptor)))
  return { files, descriptors }
}

describe('a closed chain', () => {
  test('takes no record, and writes into no file that got its descriptor', () => {
    const directory = temporaryDirectory()
    const chain = openIn(directory)
    chain.append('event', {})
    chain.close(true)
    const { files } = victims(directory)
    expect(() => chain.append('event', {})).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(files.map(() => ''))
    expect(linesOf(directory, 'boot')).toHaveLength(1)
    expect(chain.head().count).toBe(1)
  })

  test('notes no store head any more, and closes once', () => {
    const directory = temporaryDirectory()
    const chain = openIn(directory)
    chain.close(true)
    const { descriptors } = victims(directory)
    chain.noteStoreHead(STORE_HEAD)
    chain.flush()
    chain.close(true)
    expect(descriptors.map((descriptor) => writeSync(descriptor, 'open'))).toEqual(descriptors.map(() => 4))
    expect(linesOf(directory, 'boot')).toEqual([])
  })
})

test('after a failed sync nothing is appended any more: what the disk has is not known', () => {
  const directory = temporaryDirectory()
  // The descriptor of the chain becomes a pipe behind its back: written to like a file, and fdatasync(2) fails on it.
  const script = `
    import { closeSync, openSync, constants, readFileSync } from 'node:fs'
    import { openChain } from ${JSON.stringify(new URL('../../src/audit/chain.ts', import.meta.url).href)}
    const [directory, pipe, file] = process.argv.slice(1)
    const next = openSync('/dev/null', 'r')
    closeSync(next)
    const chain = openChain({ boot: 'boot', clock: { now: () => 0 }, directory, durable: true })
    chain.append('event', { first: true })
    closeSync(next)
    const swapped = [openSync(pipe, constants.O_RDWR) === next]
    const attempt = () => { try { chain.append('event', {}); return 'appended' } catch (error) { return error.code + ' ' + error.cause.syscall } }
    const whenFailed = attempt()
    closeSync(next)
    swapped.push(openSync(file, 'a') === next)
    const later = attempt()
    process.stdout.write(JSON.stringify({ swapped, whenFailed, later, count: chain.head().count, lines: readFileSync(file, 'utf8').split('\\n').length - 1 }))`
  const pipe = join(directory, 'pipe')
  execFileSync('mkfifo', [pipe])
  const args = ['--input-type=module', '-e', script, directory, pipe, chainFile(directory, 'boot')]
  expect(JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))).toEqual({
    swapped: [true, true],
    whenFailed: 'ERR_STORE fdatasync',
    later: 'ERR_STORE fdatasync',
    count: 1,
    lines: 1,
  })
  expect(existsSync(pipe)).toBe(true)
  // Its process ended by itself and let go of the lock; what it left, a successor may look at.
  expect(readdirSync(join(directory, 'chains'))).toEqual(['boot.jsonl', 'boot.lock'])
})
