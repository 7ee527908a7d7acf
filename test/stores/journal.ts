// Journals for the tests: built line by line, so that each test knows every byte, and damaged on purpose.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { fileStore, type FileStoreOptions } from '../../src/stores/file.ts'
import { encodeLine } from '../../src/stores/journal/line.ts'
import type { Batch, Store, StoreHead } from '../../src/stores/store.ts'

/** One line of a built journal: its bytes without the newline, and the head of a store that ends with it. */
export interface BuiltLine {
  readonly text: string
  readonly head: StoreHead
}

/** A built journal. */
export interface Journal {
  readonly directory: string
  readonly file: string
  readonly storeId: string
  readonly lines: readonly BuiltLine[]
}

/** A directory of this test; it goes with the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Opens the store of a directory without fsync; it is closed with its test. */
export function openStore(directory: string, options: FileStoreOptions = {}): Store {
  const store = fileStore(directory, { durability: 'os', ...options })
  onTestFinished(() => store.close())
  return store
}

/** The path of the first segment of a directory. */
export function segmentOf(directory: string): string {
  return join(directory, 'store', 'g-000000000001')
}

/** The batch of the line with this index, from 0: counts the lines in `k/n`. */
export function countingBatch(index: number): Batch {
  return { add: [{ key: 'k/n', by: 1, min: 0 }], set: [{ key: `k/${index}`, value: { index } }] }
}

/** Makes an empty store, and its id. */
export async function emptyStore(directory = temporaryDirectory()): Promise<{ directory: string; file: string; storeId: string }> {
  const store = fileStore(directory, { durability: 'os' })
  await store.close()
  return { directory, file: segmentOf(directory), storeId: store.id }
}

/** Builds a journal of lines with one batch each. */
export async function buildJournal(count: number, batch: (index: number) => Batch = countingBatch): Promise<Journal> {
  const { directory, file, storeId } = await emptyStore()
  const lines: BuiltLine[] = []
  let previous = storeId
  let bytes = 0
  for (let index = 0; index < count; index++) {
    const { text, hash } = encodeLine({ previous, writer: `builder:${index}`, timeMs: 1_700_000_000_000 + index, batches: [batch(index)] })
    previous = hash
    bytes += Buffer.byteLength(text) + 1
    lines.push({ text, head: { segment: 1, bytes, hash } })
  }
  writeFileSync(file, textOf(lines))
  return { directory, file, storeId, lines }
}

/** The content of a segment with these lines. */
export function textOf(lines: readonly BuiltLine[]): string {
  return lines.map(({ text }) => `${text}\n`).join('')
}

/** The counter of the lines that were accepted. */
export async function countOf(store: Store): Promise<number> {
  return Number((await store.read(['k/n']))[0]?.value ?? 0)
}

/** What is in the file now. */
export function contentOf({ file }: { readonly file: string }): Buffer {
  return readFileSync(file)
}

/** What a store says of one head. */
export async function holds(store: Store, head: StoreHead): Promise<'yes' | 'no' | 'unknown'> {
  return (await store.holds!([head]))[0]!
}
