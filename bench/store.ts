// Commits of the file store, beside raw append + fdatasync to one file of as many processes; the same with many
// keys in the store; opening it.

import { fork } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileStore } from '../src/stores/file.ts'
import { groupCommits } from '../src/stores/group.ts'
import { rate, type Row } from './measure.ts'

const VALUE = 'v'.repeat(200)

/** What one process of the benchmark does. */
export type Work = 'raw' | 'commit'

/** Appends and syncs 200 bytes, again and again. Returns times per second. */
export async function rawAppends(folder: string, ms: number): Promise<number> {
  const descriptor = openSync(join(folder, 'raw'), 'a')
  const line = Buffer.alloc(200, 97)
  const perSecond = await rate(ms, 1, async () => {
    writeSync(descriptor, line)
    fdatasyncSync(descriptor)
  })
  closeSync(descriptor)
  return perSecond
}

/** Commits from several callers of one process. Returns commits per second. */
export async function commits(folder: string, ms: number, callers: number): Promise<number> {
  const store = fileStore(folder)
  const committer = groupCommits(store)
  const perSecond = await rate(ms, callers, (caller) =>
    committer.commit({ add: [{ key: 'count/hot', by: 1 }], set: [{ key: `last/${process.pid}-${caller}`, value: VALUE }] }),
  )
  await store.close()
  return perSecond
}

/** Rows of the file store. */
export async function storeRows(ms: number): Promise<readonly Row[]> {
  const one = await inFolder(async (folder) => ({
    raw: await rawAppends(folder, ms),
    single: await commits(folder, ms, 1),
    sixteen: await commits(folder, ms, 16),
  }))
  const raw4 = await inFolder((folder) => processes('raw', 4, folder, ms))
  const four = await inFolder((folder) => processes('commit', 4, folder, ms))
  const eight = await inFolder((folder) => processes('commit', 8, folder, ms))
  const yard1 = `${round(one.raw)}/s append + fdatasync`
  const yard4 = `${round(sum(raw4))}/s append + fdatasync, 4 processes`
  return [
    row('file store, 1 caller', one.single, yard1, one.raw, 0.8),
    row('file store, 16 callers', one.sixteen, yard1, one.raw, 8),
    row('file store, 4 processes x 4 callers', sum(four), yard4, sum(raw4), 1.5),
    row('file store, 8 processes x 4 callers', sum(eight), yard4, sum(raw4), 1.5),
    row(
      'slowest of the 8 processes beside the fastest',
      Math.min(...eight),
      `${round(Math.max(...eight))}/s, the fastest`,
      Math.max(...eight),
      0.5,
    ),
    ...(await manyKeys(ms)),
  ]
}

async function manyKeys(ms: number): Promise<readonly Row[]> {
  return inFolder(async (folder) => {
    const few = await commits(folder, ms, 16)
    const filler = fileStore(folder, { durability: 'os' })
    const committer = groupCommits(filler)
    for (let from = 0; from < 100_000; from += 500)
      await committer.commit({ set: Array.from({ length: 500 }, (_, index) => ({ key: `filler/${from + index}`, value: VALUE })) })
    await filler.close()
    const startedAt = performance.now()
    await fileStore(folder, { durability: 'os' }).close()
    const openMs = performance.now() - startedAt
    const many = await commits(folder, ms, 16)
    return [
      row('commits with 100,000 keys in the store, 16 callers', many, `${round(few)}/s with 10 keys`, few, 0.8),
      {
        what: 'open a store of 100,000 keys',
        figure: `${Math.round(openMs)} ms`,
        yardstick: '200 ms',
        ratio: openMs / 200,
        target: '<= 200 ms',
        met: openMs <= 200,
      },
    ]
  })
}

async function processes(work: Work, count: number, folder: string, ms: number): Promise<readonly number[]> {
  // All of them exist and have opened before the first one starts to count.
  const children = await Promise.all(
    Array.from({ length: count }, () => ready(fork(new URL('process.ts', import.meta.url), [work, folder, String(ms)]))),
  )
  return Promise.all(
    children.map((child) => {
      const answer = new Promise<number>((resolve) => child.once('message', (perSecond) => resolve(Number(perSecond))))
      child.send('go')
      return answer
    }),
  )
}

function ready(child: ReturnType<typeof fork>): Promise<ReturnType<typeof fork>> {
  return new Promise((resolve) => child.once('message', () => resolve(child)))
}

async function inFolder<T>(fn: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(process.env['HOLDFAST_BENCH_DIR'] ?? tmpdir(), 'holdfast-bench-'))
  try {
    return await fn(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function row(what: string, perSecond: number, yardstick: string, of: number, least: number): Row {
  const ratio = perSecond / of
  return { what, figure: `${round(perSecond)}/s`, yardstick, ratio, target: `>= ${least} x`, met: ratio >= least }
}

const round = (value: number): string => Math.round(value).toLocaleString('en-US')
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
