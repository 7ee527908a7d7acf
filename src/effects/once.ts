// Effects that happen at most once, however often their caller is resumed. The receipt is written as `begun` in the
// commit of the effect's own hold, so there is no moment in which the effect runs without it; when the effect has
// ended, the receipt says so and keeps the result.

import { canonicalJson, type Json } from '../lib/canonical-json.ts'
import { HoldfastError, Refusal } from '../lib/errors.ts'
import { newId, sha256 } from '../lib/ids.ts'
import type { Committer } from '../stores/group.ts'
import type { Action } from '../waist/action.ts'
import type { Batch } from '../waist/batch.ts'
import type { Hold } from '../waist/hold.ts'
import type { Once, OnceOptions } from '../waist/once.ts'
import type { Scope } from '../waist/scope.ts'

/** Format of receipts. */
export const RECEIPT_FORMAT = 1

/** A receipt as it lies in the store, under `receipt/<hash of its name>`. */
export interface ReceiptRecord {
  readonly format: typeof RECEIPT_FORMAT
  readonly state: 'begun' | 'done'
  readonly agent: string
  readonly task: string
  readonly resource: string
  /** Of the call that wrote it. */
  readonly nonce: string
  /** Of a result of at most 64 KB; of a larger one there is only the hash. */
  readonly result?: Json
  readonly resultHash?: string
}

/** How long a receipt is kept, ms: 30 days. */
const RECEIPT_TTL_MS = 30 * 24 * 3_600_000
/** Largest result that is kept, in UTF-16 code units of its JSON. */
const MAX_RESULT_LENGTH = 65_536
const MAX_ATTEMPTS = 20

/**
 * Runs an effect of a scope at most once under a name.
 *
 * @throws {Refusal} As `scope.begin`.
 */
export async function runOnce<T>(
  scope: Scope,
  committer: Committer,
  receipt: string,
  action: Action,
  fn: (hold: Hold) => Promise<T>,
  { idempotent = false, undone = () => false }: OnceOptions = {},
): Promise<Once<T>> {
  const { store } = committer
  const { agent, task } = scope
  const key = `receipt/${sha256(receipt)}`
  if (action.with !== undefined) throw new TypeError('An effect under a receipt brings no write of its own: the receipt is in its place.')
  const begun: ReceiptRecord = { format: RECEIPT_FORMAT, state: 'begun', agent, task, resource: action.resource, nonce: newId() }
  let started = false

  async function effect(hold: Hold): Promise<T> {
    started = true
    let result: T
    try {
      result = await fn(hold)
    } catch (error) {
      if (undone(error)) await withdraw()
      throw error
    }
    await write({ set: [await receiptOf({ ...begun, state: 'done', ...resultOf(result) })] })
    return result
  }

  /** Takes back a receipt of this call whose effect certainly did not happen. What cannot be taken back is `unknown`. */
  async function withdraw(): Promise<void> {
    try {
      const [found] = await store.read([key])
      if ((found?.value as ReceiptRecord | undefined)?.nonce !== begun.nonce) return
      await committer.commit({ check: [{ key, version: found!.version }], delete: [key] })
    } catch {
      // Its caller is told of the error that brought it here; the receipt stays as it is.
    }
  }

  const receiptOf = async (record: ReceiptRecord) => ({ key, value: record as never, expiresAtMs: (await store.now()) + RECEIPT_TTL_MS })

  async function write(batch: Batch): Promise<void> {
    const result = await committer.commit(batch)
    if (result.outcome !== 'ok') throw new HoldfastError('ERR_STORE', `${store.name} did not take the receipt: ${result.outcome}.`)
  }

  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const [found] = await store.read([key])
    const known = found?.value as unknown as ReceiptRecord | undefined
    if (known?.state === 'done') return { outcome: 'done', ...(known.result === undefined ? {} : { result: known.result }) }
    if (known !== undefined && !idempotent) return { outcome: 'unknown' }
    const own = { check: [{ key, version: found?.version ?? 0 }], set: [await receiptOf(begun)] }
    try {
      return { outcome: 'ran', result: await scope.run({ ...action, with: own }, effect) }
    } catch (error) {
      // Somebody else has begun it since: look again. A conflict inside of the effect is the effect's own.
      if (started) throw error
      await withdraw()
      if (!Refusal.isInstance(error) || error.code !== 'ERR_CONFLICT') throw error
    }
  }
  throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under one receipt; nothing ran.`)
}

/** What a receipt keeps of a result: itself, or the hash of one that is large; nothing of what is no JSON. */
function resultOf(result: unknown): Pick<ReceiptRecord, 'result' | 'resultHash'> {
  let text: string
  try {
    text = canonicalJson(result, { dropUndefined: true })
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return {}
    throw error
  }
  return text.length <= MAX_RESULT_LENGTH ? { result: JSON.parse(text) as Json } : { resultHash: sha256(text) }
}
