// What one case of the store suite works with: a fresh store, group commit in front of it, a second client,
// a clock that it may set. Everything a bench opens is closed when its case ends.

import assert from 'node:assert/strict'
import { sleep, type Clock } from '../lib/clock.ts'
import type { Json } from '../lib/canonical-json.ts'
import { groupCommits, type Commit, type CommitResult, type GroupOptions } from '../stores/group.ts'
import { MAX_ENTRIES, type Batch, type BatchResult, type Store } from '../stores/store.ts'

/** A clock that stands still until it is set. */
export interface SettableClock extends Clock {
  set(nowMs: number): void
}

/** Makes a settable clock. @param startMs - Unix ms. */
export function settableClock(startMs = 1_700_000_000_000): SettableClock {
  let nowMs = startMs
  return { now: () => nowMs, set: (ms) => (nowMs = ms) }
}

/** A fresh store, and the clock that it runs on if a test can set it. */
export interface StoreUnderTest {
  readonly store: Store
  /** Without one, the suite waits in real time where it must; at most some tens of milliseconds per case. */
  readonly clock?: SettableClock
}

/** How the suite reaches the state of a store from elsewhere. */
export interface StoreAccess {
  create(): Promise<StoreUnderTest>
  /** Another client of the same state, while the first one is open: as another process would have it. */
  second?(first: StoreUnderTest): Promise<Store>
  /** A client of the same state after every other one was closed. */
  reopen?(first: StoreUnderTest): Promise<Store>
  /** Removes what `create` made. All clients are closed by then. */
  destroy?(first: StoreUnderTest): Promise<void>
}

/** What a case is given. */
export interface StoreBench {
  readonly store: Store
  /** Group commit on the store. */
  readonly commit: (commit: Commit) => Promise<CommitResult>
  readonly idle: () => Promise<void>
  /** Group commit with options, on this store or on one around it. */
  readonly commitWith: (options: GroupOptions, store?: Store) => StoreBench['commit']
  /** Another client of the same state. */
  readonly second: () => Promise<Store>
  /** Closes every client and opens a new one. */
  readonly reopen: () => Promise<Store>
  /** Lets the store's clock pass. */
  readonly advance: (ms: number) => Promise<void>
  /** Steps the clock back, where a test can: the store is to take no notice. */
  readonly stepBack: (ms: number) => void
}

/** A case of the suite: a claim, and what shows it. */
export interface StoreCase {
  /** The chapter, a colon, and the claim. */
  readonly name: string
  /** What of {@link StoreAccess} it cannot do without. */
  readonly needs?: 'second' | 'reopen'
  readonly run: (bench: StoreBench) => Promise<void>
}

/** Runs a case on a store of its own. */
export async function runCase({ run }: StoreCase, access: StoreAccess): Promise<void> {
  const first = await access.create()
  const opened: Store[] = [first.store]
  const { clock } = first
  const committer = groupCommits(first.store)
  const closeAll = async (): Promise<void> => {
    for (const store of opened.splice(0)) await store.close()
  }
  const open = async (how: 'second' | 'reopen'): Promise<Store> => {
    const store = await access[how]?.(first)
    assert.ok(store, `This case needs \`${how}\`, which the suite was not given.`)
    opened.push(store)
    return store
  }
  try {
    await run({
      store: first.store,
      commit: (commit) => committer.commit(commit),
      idle: () => committer.idle(),
      second: () => open('second'),
      async reopen() {
        await closeAll()
        return open('reopen')
      },
      async advance(ms) {
        if (clock !== undefined) return clock.set(clock.now() + ms)
        const until = (await first.store.now()) + ms
        while ((await first.store.now()) < until) await sleep(5)
      },
      stepBack: (ms) => clock?.set(clock.now() - ms),
      commitWith(options, store = first.store) {
        const other = groupCommits(store, options)
        return (commit) => other.commit(commit)
      },
    })
  } finally {
    await closeAll()
    await access.destroy?.(first)
  }
}

/** Asserts that a batch was applied. */
export function ok(result: CommitResult): Extract<CommitResult, { outcome: 'ok' }> {
  assert.equal(result.outcome, 'ok', `Expected ok, got ${JSON.stringify(result)}`)
  return result
}

/** Applies a group on the store itself, again for as long as other writers are first. */
export async function applyTo(store: Store, ...batches: readonly Batch[]): Promise<readonly BatchResult[]> {
  for (;;) {
    const answer = await store.apply(batches)
    if (answer.outcome === 'applied') return answer.results
    assert.equal(answer.outcome, 'contended', `Expected an answer, got ${JSON.stringify(answer)}`)
    await sleep(Math.random() * 5)
  }
}

/** The values of keys, `undefined` for absent ones. */
export async function valuesOf(store: Store, ...keys: readonly string[]): Promise<(Json | undefined)[]> {
  return (await store.read(keys)).map((entry) => entry?.value)
}

/** The keys with a prefix, as many as one list gives. */
export async function keysOf(store: Store, prefix: string): Promise<string[]> {
  return (await store.list(prefix, { limit: MAX_ENTRIES })).map(({ key }) => key)
}

/** One commit of a set. */
export function setting(key: string, value: Json): Commit {
  return { set: [{ key, value }] }
}

/** One commit of an add. */
export function adding(key: string, by: number, bounds: { readonly min?: number; readonly max?: number } = {}): Commit {
  return { add: [{ key, by, ...bounds }] }
}

/** An array of what `make` returns for 0, 1, 2 and so on. */
export function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}

/** Asserts that an operation fails because the store is closed. */
export async function assertClosed(operation: () => unknown): Promise<void> {
  await assert.rejects(async () => operation(), { code: 'ERR_CLOSED' })
}
