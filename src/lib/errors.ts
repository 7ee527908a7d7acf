// The errors of holdfast. A refusal is the kernel saying no; a failure is something broken. Both are
// recognised by a brand, never by `instanceof`, since two copies of a package in one tree are normal.

const BRAND = Symbol.for('holdfast.error')

/** Codes of refusals: the kernel looked and said no. Stable; switch on these. */
export type RefusalCode =
  | 'ERR_BUDGET_EXCEEDED'
  | 'ERR_BUDGET_BUSY'
  | 'ERR_BUDGET_FROZEN'
  | 'ERR_UNKNOWN_BUDGET'
  | 'ERR_UNKNOWN_PRICE'
  | 'ERR_UNMETERED'
  | 'ERR_NO_SCOPE'
  | 'ERR_PERMISSION_DENIED'
  | 'ERR_APPROVAL_REQUIRED'
  | 'ERR_CONFLICT'
  | 'ERR_STOPPED'

/** Codes of failures: something is broken, misused or unreachable. Stable; switch on these. */
export type FailureCode =
  | 'ERR_STORE'
  | 'ERR_DAMAGE'
  | 'ERR_STORE_FULL'
  | 'ERR_PROMISE'
  | 'ERR_BUDGET_DECLARATION'
  | 'ERR_HOLD_STATE'
  | 'ERR_PROPOSAL_STATE'
  | 'ERR_SHARED_KERNEL'
  | 'ERR_CLOSED'

/** Every code that a {@link HoldfastError} can carry. */
export type ErrorCode = RefusalCode | FailureCode

/** Base of all errors of holdfast. */
export class HoldfastError extends Error {
  /** Stable; the thing to switch on. */
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'HoldfastError'
    this.code = code
    Object.defineProperty(this, BRAND, { value: true })
  }

  /** True for an error of any copy of holdfast in this process. */
  static isInstance(error: unknown): error is HoldfastError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[BRAND] === true
  }
}

/** A stop in force. One that names neither `budget` nor `agent` is of everything on the store. */
export interface StopFacts {
  readonly id: string
  /** Path of the budget that was stopped, with all below it. */
  readonly budget?: string
  /** The agent that was stopped, wherever it works. */
  readonly agent?: string
  readonly by: string
  readonly reason: string
  /** Unix ms by the store's clock. */
  readonly atMs: number
  /** When it is over by itself, Unix ms by the store's clock; absent when somebody has to lift it. */
  readonly untilMs?: number
}

/** What bound, and what would pass. Amounts are integers: `usd` in nano-USD, everything else in units. */
export interface BudgetFacts {
  /** Path of the budget that binds, such as `acme/report-7`. */
  readonly budget: string
  /** The dimension that binds: `usd`, `tokens`, `calls` or a counter of yours. */
  readonly dimension: string
  readonly limit: number
  readonly spent: number
  readonly free: number
  /** Held by actions that have not settled. */
  readonly out: number
  /** Held by processes that died: counted as spent until an operator says otherwise. */
  readonly suspense: number
  /** What the action asked for. */
  readonly needed: number
  /** The window of the budget that binds, such as `day`; absent when it is the budget itself. */
  readonly window?: string
  /** When that window is over, Unix ms by the store's clock. */
  readonly endsAtMs?: number
  /**
   * Who has what of `out` and `suspense`: at most 5, the largest first, of the 1,000 holds and 1,000 in suspense that come
   * first in the store. Absent when nobody has any, or that could not be read.
   */
  readonly holders?: readonly BudgetHolder[]
}

/** A hold or a lease that a budget waits for. */
export interface BudgetHolder {
  /** Identity of its process: the name of its chain. */
  readonly process: string
  /** Of that process; absent when it has left no record. */
  readonly host?: string
  readonly pid?: number
  readonly hold: string
  /** Absent for a lease, which its whole process spends. */
  readonly agent?: string
  /** What it was taken for; `lease` for a lease. */
  readonly resource: string
  readonly amount: number
  /** Its process has fallen silent: it comes back with that process, its successor, or an operator. */
  readonly inSuspense: boolean
  /** Unix ms by the clock of its process. */
  readonly sinceMs: number
}

/** A limit with which the refused action would have passed. */
export interface LimitToPass {
  readonly budget: string
  /** The window of that budget that is too small, such as `rolling-minute`, where it is not the budget itself. */
  readonly window?: string
  readonly dimension: string
  /** `usd` in nano-USD. One less, and it would be refused. */
  readonly limit: number
  /**
   * By `kernel.setLimit`; by a declaration with a higher revision, where the budget is made from a shape by its first
   * call; or by a handoff of that much, where it is the budget of one.
   */
  readonly how: 'setLimit' | 'declare' | 'handoff'
}

/** Which key is not as it was read, and who wrote it. Version 0 is an absent key. */
export interface ConflictFacts {
  readonly key: string
  /** The version that was read. */
  readonly readVersion: number
  /** The version now. */
  readonly version: number
  /** Who wrote it last; absent when the key is. */
  readonly agent?: string
  readonly task?: string
}

/** Typed fields of a {@link Refusal}; which are set depends on its code. */
export interface RefusalDetails {
  readonly agent?: string
  readonly resource?: string
  /** Canonical hash of the arguments, the thing to approve on `ERR_APPROVAL_REQUIRED`. */
  readonly argsHash?: string
  readonly budget?: BudgetFacts
  /** Of `ERR_CONFLICT`. */
  readonly conflict?: ConflictFacts
  /** Of `ERR_STOPPED`. */
  readonly stop?: StopFacts
  /** The smallest change that would have let this action pass, for the operator. */
  readonly wouldPass?: string
  /** When it makes sense to ask again, Unix ms by the store's clock. */
  readonly retryAtMs?: number
  /** The same as data, for money: every limit that is too low now, and what each has to be at least. All of them are needed. */
  readonly limitsToPass?: readonly LimitToPass[]
  /** True when nothing of the kind fits any more, so that the whole run is over and the answer is remembered. */
  readonly endsRun?: boolean
  /** True when there is still what the budget keeps for a last answer: `scope.wrapUp()` may use it. */
  readonly wrapUp?: boolean
  /** True when this answer was remembered from an earlier refusal of the same run. */
  readonly latched?: boolean
  /** What the model is told. No ids, no limits, no arguments, no secrets. */
  readonly modelMessage?: string
}

const MODEL_MESSAGES: Record<RefusalCode, string> = {
  ERR_BUDGET_EXCEEDED: 'The budget for this work is used up. Stop now and answer with what you already have.',
  ERR_BUDGET_BUSY: 'The budget is held by other work right now. Try again later, or do something smaller.',
  ERR_BUDGET_FROZEN: 'This work has been stopped by its operator. Answer with what you already have.',
  ERR_UNKNOWN_BUDGET: 'This work has no budget, so nothing can be run. Report this to the operator.',
  ERR_UNKNOWN_PRICE: 'This model may not be used here. Report this to the operator.',
  ERR_UNMETERED: 'This service may not be used here. Go on without it.',
  ERR_NO_SCOPE: 'This work is not set up to run anything. Report this to the operator.',
  ERR_PERMISSION_DENIED: 'You may not do this. Do not try it again; go on without it.',
  ERR_APPROVAL_REQUIRED: 'This needs the approval of a person first. Do not try it again until you are told that it was approved.',
  ERR_STOPPED: 'This work has been stopped by its operator. Do not try again; answer with what you already have.',
  ERR_CONFLICT: 'Somebody else changed what this was based on, so nothing was written. Read it again and decide anew.',
}

/**
 * The kernel said no, before anything ran.
 *
 * `message` is for the operator; {@link Refusal.toModelMessage} is for the model. `status` 402 and the
 * retry mark keep the frameworks that read them from trying again.
 */
export class Refusal extends HoldfastError {
  declare readonly code: RefusalCode
  /** HTTP status under which a refusal travels through provider SDKs. */
  readonly status = 402
  readonly details: RefusalDetails

  constructor(code: RefusalCode, message: string, details: RefusalDetails = {}, options?: ErrorOptions) {
    super(code, message, options)
    // Unlike that of any error of others: a checkpoint of a graph keeps the name and the message, and nothing else.
    this.name = 'HoldfastRefusal'
    this.details = details
    // LangChain reads this mark; without it a refusal would be retried like a network error.
    Object.defineProperty(this, Symbol.for('langchain.errors.retryable'), { value: false })
  }

  /** What to tell the model: what to do now, and nothing that it could use or leak. */
  toModelMessage(): string {
    return this.details.modelMessage ?? MODEL_MESSAGES[this.code]
  }

  /** True for a refusal of any copy of holdfast in this process. */
  static override isInstance(error: unknown): error is Refusal {
    return HoldfastError.isInstance(error) && typeof (error as Partial<Refusal>).toModelMessage === 'function'
  }
}

const MAX_DEPTH = 16

/**
 * Finds the refusal inside whatever a framework made of it: looks through `.cause`, `.error`, `.errors`,
 * `.lastError` and the 402 body, also where it stands in `.message`, at most 16 levels deep.
 *
 * @returns The refusal, or `undefined` when the error is about something else.
 */
export function findRefusal(error: unknown): Refusal | undefined {
  const seen = new Set<unknown>()
  let level: unknown[] = [error]
  for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
    const next: unknown[] = []
    for (const candidate of level) {
      if (typeof candidate !== 'object' || candidate === null || seen.has(candidate)) continue
      seen.add(candidate)
      if (Refusal.isInstance(candidate)) return candidate
      const { cause, error: inner, errors, lastError, responseBody, message } = candidate as Record<string, unknown>
      const carried = refusalFromBody(inner) ?? refusalFromBody(candidate) ?? refusalFromText(responseBody) ?? refusalFromText(message)
      if (carried !== undefined) return carried
      next.push(cause, inner, lastError)
      if (Array.isArray(errors)) next.push(...errors.slice(0, 100))
    }
    level = next
  }
  return undefined
}

/** The JSON body of the synthetic 402 under which a refusal crosses a provider SDK. */
export interface RefusalBody {
  readonly error: {
    readonly type: 'holdfast_refusal'
    readonly code: RefusalCode
    readonly message: string
    readonly holdfast: RefusalDetails
  }
}

/** Writes a refusal as the body of a 402, in the error format of the OpenAI API. */
export function refusalToBody(refusal: Refusal): RefusalBody {
  const { code, message, details } = refusal
  return { error: { type: 'holdfast_refusal', code, message, holdfast: details } }
}

function refusalFromBody(value: unknown): Refusal | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const body = value as Partial<RefusalBody['error']>
  if (body.type !== 'holdfast_refusal' || typeof body.code !== 'string' || !Object.hasOwn(MODEL_MESSAGES, body.code)) return undefined
  const details = typeof body.holdfast === 'object' && body.holdfast !== null ? body.holdfast : {}
  return new Refusal(body.code, String(body.message), details)
}

/** The AI SDK keeps the body of an error answer as text, and the Google Gen AI SDK makes it the message of its error. */
function refusalFromText(value: unknown): Refusal | undefined {
  if (typeof value !== 'string' || !value.includes('holdfast_refusal') || value.length > 65_536) return undefined
  try {
    return refusalFromBody((JSON.parse(value) as Partial<RefusalBody>).error)
  } catch {
    // A body that only mentions us, in some other format, carries no refusal.
    return undefined
  }
}
