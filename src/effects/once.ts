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

/** What effects under receipts stand on. */
export interface OnceContext {
  readonly committer: Committer
  readonly reports: {
    /** Tries now, and in the background until it succeeds. Never rejects. */
    send(report: () => Promise<void>, onDelayed: (error: unknown) => void): Promise<void>
  }
  /** The receipt of an effect that has ended could not be written yet. */
  readonly onDelayed: (message: string) => void
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
  { committer, reports, onDelayed }: OnceContext,
  receipt: string,
  action: Action,
  fn: (hold: Hold) => Promise<T>,
  { idempotent = false, undone = () => false, signal }: OnceOptions = {},
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
    await complete(resultOf(result))
    return result
  }

  /** Writes what came of an effect that has happened. Its caller gets the result whatever becomes of the receipt. */
  async function complete(result: ReturnType<typeof resultOf>): Promise<void> {
    let tries = 0
    const report = async (): Promise<void> => {
      const check = tries++ === 0 ? [] : await mine()
      // By a later try somebody else may have run an idempotent effect again, and have written a newer receipt.
      if (tries > 1 && check.length === 0) return
      await write({ check, set: [await receiptOf({ ...begun, state: 'done', ...result })] })
    }
    await reports.send(report, (error) => {
      const message = `\`${action.resource}\` of \`${agent}\` has run, and its receipt could not be completed yet: until it is, nobody else knows how it ended. ${String(error)}`
      onDelayed(message)
    })
  }

  /** The receipt as it is, to be checked, when this call wrote it; else nothing. */
  async function mine(): Promise<NonNullable<Batch['check']>> {
    const [found] = await store.read([key])
    return (found?.value as ReceiptRecord | undefined)?.nonce === begun.nonce ? [{ key, version: found!.version }] : []
  }

  /** Takes back a receipt of this call whose effect certainly did not happen. What cannot be taken back is `unknown`. */
  async function withdraw(): Promise<void> {
    try {
      const check = await mine()
      if (check.length > 0) await committer.commit({ check, delete: [key] })
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
      return { outcome: 'ran', result: await scope.run({ ...action, with: own }, effect, undefined, undefined, { signal }) }
    } catch (error) {
      // Somebody else has begun it since: look again. A conflict inside of the effect is the effect's own.
      if (started) throw error
      await withdraw()
      if (!Refusal.isInstance(error) || error.code !== 'ERR_CONFLICT') throw error
    }
  }
  throw new HoldfastError('ERR_STORE', `${store.name} changed ${MAX_ATTEMPTS} times under one receipt; nothing ran.`)
}

/** What a receipt keeps of a result: itself, or the hash of one that is large; nothing of what is no JSON. Never throws. */
function resultOf(result: unknown): Pick<ReceiptRecord, 'result' | 'resultHash'> {
  let text: string
  try {
    text = canonicalJson(result, { dropUndefined: true })
  } catch {
    // Also of one that throws when it is read: the effect has happened.
    return {}
  }
  return text.length <= MAX_RESULT_LENGTH ? { result: JSON.parse(text) as Json } : { resultHash: sha256(text) }
}
