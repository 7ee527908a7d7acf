// Commits of the file store, beside raw append + fdatasync to one file of as many processes; the same with many
// keys in the store; opening it, from all lines and from a snapshot; what writers see of a rotation.

import { fork } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileStore } from '../src/stores/file.ts'
import { groupCommits } from '../src/stores/group.ts'
import { median, rate, type Row } from './measure.ts'

const VALUE = 'v'.repeat(200)
const ROUNDS = 3

/** What one process of the benchmark does. */
export type Work = 'raw' | 'commit'

/** Appends and syncs 200 bytes, again and again. Returns times per second. */
export async function rawAppends(folder: string, ms: number): Promise<number> {
  mkdirSync(folder, { recursive: true })
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

/** Rows of the file store. Each round measures the yardstick and what stands beside it one after the other. */
export async function storeRows(ms: number): Promise<readonly Row[]> {
  const one = await rounds(async (folder) => ({
    raw: await rawAppends(folder, ms),
    single: await commits(folder, ms, 1),
    sixteen: await commits(folder, ms, 16),
  }))
  const many = await rounds(async (folder) => {
    const raw = sum(await processes('raw', 4, folder, ms))
    const four = sum(await processes('commit', 4, folder, ms))
    const eight = await processes('commit', 8, folder, ms)
    return { raw, four, eight: sum(eight), slowest: Math.min(...eight), fastest: Math.max(...eight) }
  })
  return [
    row('file store, 1 caller', one, 'single', 'raw', 'append + fdatasync', 0.8),
    row('file store, 16 callers', one, 'sixteen', 'raw', 'append + fdatasync', 8),
    row('file store, 4 processes x 4 callers', many, 'four', 'raw', 'append + fdatasync, 4 processes', 1.5),
    row('file store, 8 processes x 4 callers', many, 'eight', 'raw', 'append + fdatasync, 4 processes', 1.5),
    row('slowest of the 8 processes beside the fastest', many, 'slowest', 'fastest', 'the fastest', 0.5),
    ...(await manyKeys(ms)),
  ]
}

async function manyKeys(ms: number): Promise<readonly Row[]> {
  const measured = await rounds(async (folder) => {
    const few = await commits(join(folder, 'few'), ms, 16)
    const filler = fileStore(folder, { durability: 'os' })
    const committer = groupCommits(filler)
    for (let from = 0; from < 100_000; from += 500)
      await committer.commit({ set: Array.from({ length: 500 }, (_, index) => ({ key: `filler/${from + index}`, value: VALUE })) })
    await filler.close()
    const startedAt = performance.now()
    await fileStore(folder, { durability: 'os' }).close()
    const openMs = performance.now() - startedAt
    const many = await commits(folder, ms, 16)
    const quietMs = await p99(folder, ms, false)
    const rotatingMs = await p99(folder, ms, true)
    const openedAt = performance.now()
    await fileStore(folder, { durability: 'os' }).close()
    return { few, openMs, many, quietMs, rotatingMs, openSnapshotMs: performance.now() - openedAt }
  })
  const middle = (name: 'openMs' | 'openSnapshotMs' | 'quietMs' | 'rotatingMs'): number => median(measured.map((round) => round[name]))
  const [quietMs, rotatingMs] = [middle('quietMs'), middle('rotatingMs')]
  return [
    row('commits with 100,000 keys in the store, 16 callers', measured, 'many', 'few', 'with 10 keys', 0.8),
    openRow('open a store of 100,000 keys', middle('openMs')),
    openRow('open a store of 100,000 keys after rotation, from its snapshot', middle('openSnapshotMs')),
    {
      what: 'p99 of a commit, 4 callers, 100,000 keys, while the store rotates without a pause',
      figure: `${rotatingMs.toFixed(2)} ms`,
      yardstick: `${quietMs.toFixed(2)} ms without rotation`,
      ratio: rotatingMs / quietMs,
      target: '<= 50 ms',
      met: rotatingMs <= 50,
    },
  ]
}

function openRow(what: string, ms: number): Row {
  return { what, figure: `${Math.round(ms)} ms`, yardstick: '200 ms', ratio: ms / 200, target: '<= 200 ms', met: ms <= 200 }
}

/** How long 99 of 100 commits of four callers take at most, ms; with one rotation after the other, or none. */
async function p99(folder: string, ms: number, isRotating: boolean): Promise<number> {
  const store = fileStore(folder, { segmentBytes: Infinity })
  const committer = groupCommits(store)
  const samples: number[] = []
  const run = { over: false }
  const rotation = (async () => {
    if (!isRotating) return
    while (!run.over) await store.compact()
  })()
  await rate(ms, 4, async () => {
    const before = performance.now()
    await committer.commit({ add: [{ key: 'count/hot', by: 1 }] })
    samples.push(performance.now() - before)
  })
  run.over = true
  await rotation
  await store.close()
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length * 0.99)]!
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

async function rounds<T>(fn: (folder: string) => Promise<T>): Promise<readonly T[]> {
  const results: T[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const folder = mkdtempSync(join(process.env['HOLDFAST_BENCH_DIR'] ?? tmpdir(), 'holdfast-bench-'))
    try {
      results.push(await fn(folder))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  return results
}

function row<K extends string>(
  what: string,
  measured: readonly Readonly<Record<K, number>>[],
  figure: NoInfer<K>,
  yardstick: NoInfer<K>,
  of: string,
  least: number,
): Row {
  const ratio = median(measured.map((round) => round[figure] / round[yardstick]))
  return {
    what,
    figure: `${rounded(median(measured.map((round) => round[figure])))}/s`,
    yardstick: `${rounded(median(measured.map((round) => round[yardstick])))}/s ${of}`,
    ratio,
    target: `>= ${least} x`,
    met: ratio >= least,
  }
}

const rounded = (value: number): string => Math.round(value).toLocaleString('en-US')
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
