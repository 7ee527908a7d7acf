// What the tests of rotation share: sources that are wrong on purpose, and rounds in which one process dies or
// sleeps at one change of a file while others go on, judged by what they were told.

import { fork } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { onTestFinished } from 'vitest'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore, type FileStore } from '../../src/stores/file.ts'
import { groupCommits, type Committer } from '../../src/stores/group.ts'
import { segmentFile } from '../../src/stores/journal/folder.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import type { StoreHead } from '../../src/stores/store.ts'
import type { RotatorOptions } from './file-rotator.ts'

/** The sources as they are. */
export const SOURCE: string = resolve(import.meta.dirname, '../../src')

/** A text in a source file, and what stands there instead. */
export interface Mistake {
  readonly file: string
  readonly right: string
  readonly wrong: string
}

/** Copies the sources with mistakes in them; the copy goes with the test. */
export function sourcesWith(mistakes: readonly Mistake[]): string {
  const copy = mkdtempSync(join(tmpdir(), 'holdfast-mistake-'))
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }))
  cpSync(join(SOURCE, 'lib'), join(copy, 'lib'), { recursive: true })
  cpSync(join(SOURCE, 'stores'), join(copy, 'stores'), { recursive: true })
  writeFileSync(join(copy, 'package.json'), '{"type":"module"}')
  for (const { file, right, wrong } of mistakes) {
    const path = join(copy, 'stores', file)
    const text = readFileSync(path, 'utf8')
    if (text.split(right).length !== 2) throw new Error(`${file} does not contain ${JSON.stringify(right)} once.`)
    writeFileSync(path, text.replace(right, wrong))
  }
  return copy
}

/** One process of a round that lives in this one. */
export interface Peer {
  readonly store: FileStore
  readonly committer: Committer
  readonly heads: StoreHead[]
  acknowledged: number
}

/** Opens a store and notes every head that it names. */
export function openPeer(directory: string): Peer {
  const store = fileStore(directory, { durability: 'os' })
  const heads: StoreHead[] = []
  return { store, committer: groupCommits(store, { onStoreHead: (head) => heads.push(head) }), heads, acknowledged: 0 }
}

/** Commits as a peer. */
export async function commitAs(peer: Peer, times: number): Promise<void> {
  for (let count = 0; count < times; count++) {
    const { outcome } = await peer.committer.commit({
      add: [
        { key: 'n/all', by: 1 },
        { key: 'n/peers', by: 1 },
      ],
    })
    if (outcome === 'ok') peer.acknowledged += 1
    else throw new Error(`Unexpected outcome ${outcome}`)
  }
}

/** What a round came to. */
export interface Round {
  /** Changes of files that the rotator made, by name, in order. */
  readonly changes: readonly string[]
  /** What is wrong; empty for a store that keeps its promise. */
  readonly faults: readonly string[]
  readonly ended: boolean
  readonly stopped: boolean
  readonly failures: readonly string[]
  readonly files: readonly string[]
}

interface RoundOptions extends Pick<RotatorOptions, 'source' | 'at' | 'fullFrom'> {
  /** A rotator that is wrong on purpose may never end by itself. @default a minute */
  readonly lifeMs?: number
}

/**
 * One round: a peer that sleeps at segment 1, two processes that die right after they have sealed a segment, one
 * compaction, then a rotator whose compaction is the first one that trims, three segments at once. When it has stopped, a third peer compacts three times before it goes on; when it has ended, all commit.
 */
export async function playRound({ source, at, fullFrom, lifeMs = MAX_LIFE_MS }: RoundOptions): Promise<Round> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-round-'))
  const log = join(directory, 'log')
  const sleeper = openPeer(directory)
  const peer = openPeer(directory)
  const peers = [sleeper, peer]
  try {
    await commitAs(sleeper, 2)
    for (let round = 0; round < 2; round++) {
      await commitAs(peer, 2)
      sealOnly(directory, peer.heads.at(-1)!)
    }
    await peer.store.compact()
    const told: RotatorOptions = {
      source,
      directory,
      log,
      ...(at === undefined ? {} : { at }),
      ...(fullFrom === undefined ? {} : { fullFrom }),
    }
    const stopped = await runRotator(told, lifeMs, async () => {
      for (let round = 0; round < 3; round++) {
        await commitAs(peer, 2)
        await peer.store.compact()
      }
    })
    const faults: string[] = []
    for (const one of [sleeper, peer]) await commitAs(one, 2).catch((error: Error) => faults.push(`a peer cannot commit: ${error.message}`))
    const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n') : []
    faults.push(...lines.filter((line) => line.startsWith('E ')))
    await judge(directory, peers, count(lines, 'I'), count(lines, 'A'), faults)
    return {
      changes: lines.filter((line) => line.startsWith('C ')).map((line) => line.slice(2)),
      faults,
      ended: lines.includes('done'),
      stopped,
      failures: lines.filter((line) => line.startsWith('F ')).map((line) => line.slice(2)),
      files: readdirSync(join(directory, 'store')).map((name) => name.replace(/-\d+-[\w-]{22}$/, '')),
    }
  } finally {
    await Promise.all(peers.map(({ store }) => store.close()))
    rmSync(directory, { recursive: true, force: true })
  }
}

/** What a process leaves that dies once its seal is written. */
function sealOnly(directory: string, { segment, hash }: StoreHead): void {
  const { text } = encodeLine({ previous: hash, writer: 'sealer:1', timeMs: Date.now(), batches: [], seal: segment + 1 })
  appendFileSync(segmentFile(join(directory, 'store'), segment), `${text}\n`)
}

const count = (lines: readonly string[], what: string): number => lines.filter((line) => line === what).length

/** Opens the store anew, twice with a compaction between, and holds it against what was acknowledged. */
async function judge(directory: string, peers: readonly Peer[], sent: number, told: number, faults: string[]): Promise<void> {
  const acknowledged = peers.reduce((sum, peer) => sum + peer.acknowledged, 0)
  for (const when of ['at first', 'after another compaction']) {
    try {
      const store = fileStore(directory, { durability: 'os' })
      const [all, byPeers, byRotator] = (await store.read(['n/all', 'n/peers', 'n/rotator'])).map((entry) => Number(entry?.value ?? 0))
      if (byPeers !== acknowledged) faults.push(`${when}: peers were told of ${acknowledged} commits, ${byPeers} are there`)
      if (byRotator! < told || byRotator! > sent)
        faults.push(`${when}: the rotator sent ${sent}, was told of ${told}, ${byRotator} are there`)
      if (all !== byPeers! + byRotator!) faults.push(`${when}: ${all} in all are not ${byPeers} and ${byRotator}`)
      const answers = await store.holds!(peers.flatMap(({ heads }) => heads))
      if (answers.includes('no')) faults.push(`${when}: an acknowledged head is not held`)
      await store.compact()
      await store.close()
    } catch (error) {
      faults.push(`${when}: ${(error as Error).message}`)
    }
  }
}

const MAX_LIFE_MS = 60_000

/** Runs a rotator to its end; while it has stopped itself, `meanwhile` happens. */
async function runRotator(options: RotatorOptions, lifeMs: number, meanwhile: () => Promise<void>): Promise<boolean> {
  const child = fork(join(import.meta.dirname, 'file-rotator.ts'), [JSON.stringify(options)], { execArgv: [] })
  const end = new Promise((done) => child.once('exit', done))
  const life = setTimeout(() => child.kill('SIGKILL'), lifeMs)
  let stopped = false
  const run = { over: false }
  void end.then(() => (run.over = true))
  while (!run.over && options.at?.act.startsWith('stopped') === true && !stopped) {
    stopped = isStopped(child.pid!)
    await sleep(5)
  }
  try {
    if (stopped) await meanwhile()
  } finally {
    child.kill('SIGCONT')
  }
  await end
  clearTimeout(life)
  return stopped
}

function isStopped(pid: number): boolean {
  const file = `/proc/${pid}/stat`
  return existsSync(file) && /\) T/.test(readFileSync(file, 'utf8'))
}
