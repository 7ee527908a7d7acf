// Is this what happened? Each chain is checked by itself (every field, every link, no gap), and against the
// head that the store has of it: how long it was, and with which last record, when its last batch was sent.

import { createReadStream, existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { entriesOf } from '../stores/entries.ts'
import type { Store } from '../stores/store.ts'
import { decodeRecord, type AuditRecord } from './record.ts'

const NEWLINE = 10

/** What is known of one chain. */
export interface ChainVerdict {
  readonly chain: string
  readonly ok: boolean
  /** Records that are there and hold. */
  readonly records: number
  /** Records after the last head that a batch carried: nothing but the file itself vouches for them. */
  readonly beyondHead: number
  /** What is wrong, naming the first bad record; absent when all is well. */
  readonly fault?: string
}

/** The head of a chain in the store. */
export interface StoredHead {
  readonly count: number
  readonly hash: string
}

/**
 * Checks one chain, line by line (as text or as the bytes of a file), against the head that the store has of it.
 *
 * @param onRecord - Told each record that holds, in order.
 */
export async function verifyChain(
  chain: string,
  lines: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
  stored: StoredHead | undefined,
  onRecord?: (record: AuditRecord) => void,
): Promise<ChainVerdict> {
  let count = 0
  let prev = chain
  const verdict = (fault?: string): ChainVerdict => ({
    chain,
    ok: fault === undefined,
    records: count,
    beyondHead: Math.max(0, count - (stored?.count ?? 0)),
    ...(fault === undefined ? {} : { fault }),
  })
  const bad = (fault: string): ChainVerdict => verdict(`record ${count} (line ${count + 1}): ${fault}`)
  for await (const line of lines) {
    const read = decodeRecord(line)
    if ('fault' in read) return bad(read.fault)
    const { record, hash } = read
    if (record.chain !== chain) return bad(`it belongs to the chain ${record.chain}`)
    if (record.seq !== count) return bad(`it says that it is record ${record.seq}`)
    if (record.prev !== prev) return bad('it does not follow the record before it')
    if (stored !== undefined && count + 1 === stored.count && hash !== stored.hash) return bad('the store knows another record here')
    prev = hash
    count += 1
    onRecord?.(record)
  }
  if (stored !== undefined && count < stored.count) {
    return bad(`it and all later ones are missing; the store knows of ${stored.count}`)
  }
  return verdict()
}

/**
 * Checks every chain of a data directory, and every chain that the store knows of.
 *
 * @param store - Where the heads lie; without it a cut tail cannot be seen.
 */
export async function verifyAudit(directory: string, store?: Store): Promise<readonly ChainVerdict[]> {
  const folder = join(directory, 'chains')
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.jsonl')) : []
  const heads = store === undefined ? new Map<string, StoredHead>() : await storedHeads(store)
  const chains = new Set([...files.map((name) => name.slice(0, -'.jsonl'.length)), ...heads.keys()])
  const verdicts: ChainVerdict[] = []
  for (const chain of [...chains].sort()) verdicts.push(await verifyFile(chain, join(folder, `${chain}.jsonl`), heads.get(chain)))
  return verdicts
}

/** Checks one file. What cannot be read is a bad chain: it must not keep the others from being checked. */
async function verifyFile(chain: string, file: string, stored: StoredHead | undefined): Promise<ChainVerdict> {
  const bad = (fault: string): ChainVerdict => ({ chain, ok: false, records: 0, beyondHead: 0, fault })
  try {
    const found = statSync(file, { throwIfNoEntry: false })
    if (found === undefined) return bad(`${file} is missing; the store knows of ${stored?.count ?? 0} records`)
    if (!found.isFile()) return bad(`${file} is not a file`)
    return await verifyChain(chain, wholeLines(file), stored)
  } catch (error) {
    return bad(`${file} cannot be read: ${(error as Error).message}`)
  }
}

/**
 * The lines of a file, split at newlines and at nothing else. What follows the last newline is a write that a
 * crash cut short; it was never acknowledged to anyone, so it is no record.
 */
export async function* wholeLines(file: string): AsyncGenerator<Uint8Array> {
  let rest: Buffer[] = []
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)])
      rest = []
      start = end + 1
    }
    rest.push(chunk.subarray(start))
  }
}

async function storedHeads(store: Store): Promise<Map<string, StoredHead>> {
  const heads = new Map<string, StoredHead>()
  for await (const { key, value } of entriesOf(store, 'head/')) heads.set(key.slice('head/'.length), value as unknown as StoredHead)
  return heads
}
