// What somebody may do to the files of the audit, beside their lines: empty, remove, rename, swap, replace or forge
// whole ones, and cut their ends. One bad file never keeps the others from being checked.

import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { encodeRecord } from '../../src/audit/record.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import type { Store } from '../../src/stores/store.ts'
import { chainFile, headOf, relinked, storeWithHeads, temporaryDirectory, workedChain, writeChain } from './chains.ts'

interface Worked {
  readonly chain: string
  readonly lines: readonly string[]
}

let one: Worked
let other: Worked

beforeAll(async () => {
  const worked = [await workedChain(), await workedChain()].sort((a, b) => (a.chain < b.chain ? -1 : 1))
  ;[one, other] = worked as unknown as [Worked, Worked]
})

/** A directory with both chains, and a store that knows both. */
async function bothChains(): Promise<{ directory: string; store: Store; fileOf: (worked: Worked) => string }> {
  const directory = temporaryDirectory()
  for (const { chain, lines } of [one, other]) writeChain(directory, chain, lines)
  const store = await storeWithHeads({ [one.chain]: headOf(one.lines), [other.chain]: headOf(other.lines) })
  return { directory, store, fileOf: ({ chain }) => chainFile(directory, chain) }
}

const well = ({ chain, lines }: Worked) => ({ chain, ok: true, records: lines.length, beyondHead: 0 })

describe('verifyAudit', () => {
  test('finds both chains whole, in order of their names, with a store and without', async () => {
    const { directory, store } = await bothChains()
    expect(await verifyAudit(directory, store)).toEqual([well(one), well(other)])
    expect(await verifyAudit(directory)).toMatchObject([{ ok: true, beyondHead: one.lines.length }, { ok: true }])
  })

  test('has nothing to say of a directory without chains, and of one that is not there', async () => {
    const directory = temporaryDirectory()
    expect(await verifyAudit(directory)).toEqual([])
    expect(await verifyAudit(join(directory, 'none'), memoryStore())).toEqual([])
    expect(await verifyAudit(join(directory, 'none'), await storeWithHeads({ gone: { count: 1, hash: 'x' } }))).toMatchObject([
      { ok: false },
    ])
  })

  test('looks at chain files only', async () => {
    const { directory, store } = await bothChains()
    for (const name of ['notes.txt', 'x.jsonl.bak', '.jsonl~']) writeFileSync(join(directory, 'chains', name), 'not a chain')
    expect(await verifyAudit(directory, store)).toEqual([well(one), well(other)])
  })

  test('asks the store for the heads of all chains, also of more than one page', async () => {
    const heads = Array.from({ length: 2_345 }, (_, index) => [`chain-${index}`, { count: 1, hash: 'x' }] as const)
    const verdicts = await verifyAudit(temporaryDirectory(), await storeWithHeads(Object.fromEntries(heads)))
    expect(new Set(verdicts.map(({ chain }) => chain))).toEqual(new Set(heads.map(([chain]) => chain)))
    expect(verdicts.filter(({ ok }) => ok)).toEqual([])
  })

  test('reads lines that are larger than what is read at once, and characters that lie across', async () => {
    const directory = temporaryDirectory()
    const frame = { v: 1, chain: 'large', t: 1, kind: 'event' } as const
    const texts = ['\u{1f916}'.repeat(50_000), 'x', `x${'\u20ac'.repeat(70_000)}`, 'y'.repeat(65_536)]
    const lines = relinked(
      'large',
      texts.map((text, seq) => encodeRecord({ ...frame, seq, prev: '', text }).line),
    )
    writeChain(directory, 'large', lines)
    expect(await verifyAudit(directory, await storeWithHeads({ large: headOf(lines) }))).toEqual([well({ chain: 'large', lines })])
  })
})

describe('a chain file', () => {
  test('that was emptied is found by the store, and not without it', async () => {
    const { directory, store, fileOf } = await bothChains()
    writeFileSync(fileOf(one), '')
    const fault = `record 0 (line 1): it and all later ones are missing; the store knows of ${one.lines.length}`
    expect(await verifyAudit(directory, store)).toEqual([{ chain: one.chain, ok: false, records: 0, beyondHead: 0, fault }, well(other)])
    expect(await verifyAudit(directory)).toMatchObject([{ ok: true, records: 0 }, { ok: true }])
  })

  test('that was removed is found by the store, and not without it', async () => {
    const { directory, store, fileOf } = await bothChains()
    rmSync(fileOf(one))
    const fault = `${fileOf(one)} is missing; the store knows of ${one.lines.length} records`
    expect(await verifyAudit(directory, store)).toEqual([{ chain: one.chain, ok: false, records: 0, beyondHead: 0, fault }, well(other)])
    expect(await verifyAudit(directory)).toMatchObject([{ chain: other.chain, ok: true }])
  })

  test('that went with its whole folder is found by the store', async () => {
    const { directory, store } = await bothChains()
    rmSync(join(directory, 'chains'), { recursive: true })
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false }, { ok: false }])
    expect(await verifyAudit(directory)).toEqual([])
  })

  test('that is another chain’s under its name is found at its first record, with and without a store', async () => {
    const { directory, store, fileOf } = await bothChains()
    renameSync(fileOf(other), fileOf(one))
    const fault = `record 0 (line 1): it belongs to the chain ${other.chain}`
    expect(await verifyAudit(directory, store)).toMatchObject([
      { ok: false, fault },
      { ok: false, fault: expect.stringContaining('is missing') },
    ])
    expect(await verifyAudit(directory)).toMatchObject([{ chain: one.chain, ok: false, fault }])
  })

  test('that changed places with another one is found, both of them', async () => {
    const { directory, store, fileOf } = await bothChains()
    writeChain(directory, one.chain, other.lines)
    writeChain(directory, other.chain, one.lines)
    expect(readFileSync(fileOf(one), 'utf8')).toContain(other.chain)
    for (const given of [store, undefined])
      expect(await verifyAudit(directory, given)).toMatchObject([
        { ok: false, fault: `record 0 (line 1): it belongs to the chain ${other.chain}` },
        { ok: false, fault: `record 0 (line 1): it belongs to the chain ${one.chain}` },
      ])
  })

  test('that begins with its own records and goes on with another chain’s is found where that begins', async () => {
    const { directory, store } = await bothChains()
    writeChain(directory, one.chain, [...one.lines, ...other.lines])
    const fault = `record ${one.lines.length} (line ${one.lines.length + 1}): it belongs to the chain ${other.chain}`
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false, fault }, { ok: true }])
  })

  test('that was forged as another chain’s twin, with every hash made to fit, is found by the store only', async () => {
    const { directory, store } = await bothChains()
    writeChain(directory, one.chain, relinked(one.chain, other.lines))
    const known = expect.stringContaining('the store knows another record here')
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false, fault: known }, { ok: true }])
    expect(await verifyAudit(directory)).toMatchObject([{ ok: true }, { ok: true }])
  })

  test('that is an old copy of itself is found by the store', async () => {
    const { directory, store } = await bothChains()
    writeChain(directory, one.chain, one.lines.slice(0, 4))
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false, records: 4 }, { ok: true }])
  })

  test('of a process that never was is not found: the count says that nothing vouches for it', async () => {
    const { directory, store } = await bothChains()
    writeChain(directory, 'zz-forged', relinked('zz-forged', one.lines))
    const forged = { chain: 'zz-forged', ok: true, records: one.lines.length, beyondHead: one.lines.length }
    expect(await verifyAudit(directory, store)).toEqual([well(one), well(other), forged])
  })
})

describe('the end of a chain file', () => {
  test('that a crash cut short is no record and no fault, wherever it was cut', async () => {
    const { directory, fileOf } = await bothChains()
    const last = Buffer.from(`${one.lines.at(-1)!}\n`)
    const store = await storeWithHeads({ [one.chain]: headOf(one.lines.slice(0, -1)), [other.chain]: headOf(other.lines) })
    for (let kept = 0; kept < last.length; kept += 7) {
      writeChain(directory, one.chain, one.lines.slice(0, -1))
      appendFileSync(fileOf(one), last.subarray(0, kept))
      expect(await verifyAudit(directory, store)).toEqual([{ ...well(one), records: one.lines.length - 1 }, well(other)])
    }
  })

  test('that lost its newline is a record less, which the store notices if it had it', async () => {
    const { directory, store, fileOf } = await bothChains()
    writeFileSync(fileOf(one), readFileSync(fileOf(one)).subarray(0, -1))
    const fault = `record ${one.lines.length - 1} (line ${one.lines.length}): it and all later ones are missing; the store knows of ${one.lines.length}`
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false, fault }, { ok: true }])
  })

  test('has a fault when something follows an unterminated record, for its process never wrote there again', async () => {
    const { directory, store, fileOf } = await bothChains()
    const [torn, next] = [one.lines.at(-2)!.slice(0, 50), one.lines.at(-1)!]
    writeChain(directory, one.chain, one.lines.slice(0, -2))
    appendFileSync(fileOf(one), `${torn}${next}\n`)
    expect(await verifyAudit(directory, store)).toMatchObject([{ ok: false, records: one.lines.length - 2 }, { ok: true }])
  })

  test.each([
    ['CRLF', (text: string) => text.replaceAll('\n', '\r\n'), 0],
    ['a byte order mark', (text: string) => `\ufeff${text}`, 0],
    ['an empty line at the end', (text: string) => `${text}\n`, 'all'],
    ['an empty line in front', (text: string) => `\n${text}`, 0],
  ])('or lines: %s is found', async (_, change, bad) => {
    const { directory, store, fileOf } = await bothChains()
    writeFileSync(fileOf(one), change(readFileSync(fileOf(one), 'utf8')))
    expect(await verifyAudit(directory, store)).toMatchObject([
      { ok: false, records: bad === 'all' ? one.lines.length : bad },
      { ok: true },
    ])
  })
})

describe('what is no file', () => {
  test.each([
    ['a folder', (path: string) => mkdirSync(path)],
    ['a pipe that nobody writes to', (path: string) => execFileSync('mkfifo', [path])],
    ['a link to a device without end', (path: string) => symlinkSync('/dev/zero', path)],
  ])('under the name of a chain (%s) is a bad chain, and the other one is checked', async (_, make) => {
    const { directory, store, fileOf } = await bothChains()
    rmSync(fileOf(one))
    make(fileOf(one))
    const fault = `${fileOf(one)} is not a file`
    expect(await verifyAudit(directory, store)).toEqual([{ chain: one.chain, ok: false, records: 0, beyondHead: 0, fault }, well(other)])
  })

  test('a link to nowhere is a missing chain, also where no store knows of it', async () => {
    const { directory, fileOf } = await bothChains()
    rmSync(fileOf(one))
    symlinkSync(join(directory, 'nowhere'), fileOf(one))
    expect(await verifyAudit(directory)).toMatchObject([{ ok: false, fault: expect.stringContaining('is missing') }, { ok: true }])
  })

  test('a file that may not be read is a bad chain, and the other one is checked', async () => {
    const { directory } = await bothChains()
    const script = `
      import { chmodSync } from 'node:fs'
      import { verifyAudit } from ${JSON.stringify(new URL('../../src/audit/verify.ts', import.meta.url).href)}
      const [directory, file] = process.argv.slice(1)
      chmodSync(directory, 0o755)
      chmodSync(file, 0o000)
      if (process.getuid() === 0) process.setuid(65534)
      process.stdout.write(JSON.stringify(await verifyAudit(directory)))`
    const args = ['--input-type=module', '-e', script, directory, chainFile(directory, one.chain)]
    const verdicts = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as unknown
    const fault = expect.stringMatching(`^${chainFile(directory, one.chain)} cannot be read: EACCES`)
    expect(verdicts).toMatchObject([
      { chain: one.chain, ok: false, fault },
      { chain: other.chain, ok: true },
    ])
  })
})
