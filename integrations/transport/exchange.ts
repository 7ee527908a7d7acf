// One HTTP attempt, from its hold to its end. However it ends, the hold ends once: settled from the answer's own
// usage, released where a provider does not bill, charged at worst where nobody can know.

import type { Scope } from '../../src/waist/scope.ts'
import type { Hold, Settlement } from '../../src/waist/hold.ts'
import type { Drains } from './drains.ts'
import type { StepHolds } from './step-holds.ts'
import type { Finding, Wire, WireRequest } from '../wires/wire.ts'
import { answerOf, type ModelCall } from '../common/model-call.ts'
import { isUnbilledByDefault } from './unbilled-statuses.ts'

/** One request and its answer. */
export interface Exchange {
  readonly scope: Scope
  readonly wire: Wire
  /** The request as the caller wrote it. */
  readonly request: WireRequest
  readonly call: ModelCall
  /** The hold that pays for it, or the first of them. */
  readonly hold: Hold
  readonly settlement: Settlement
  /** Where its output is held in steps. */
  readonly steps: StepHolds | undefined
  readonly drains: Drains
  readonly unbilledStatuses: readonly number[] | undefined
  /** The budget to pause where the provider says to slow down. */
  readonly account: string | undefined
  /** Whether what was asked for goes on without this answer, and a later one will tell its usage. */
  readonly stillRuns?: (() => boolean) | undefined
}

/** What an answer is settled with. */
type Paying = Pick<Exchange, 'scope' | 'call' | 'settlement' | 'stillRuns'>

/** Settles with what the answer says; charges the worst case, and says so, when it says nothing usable. */
export async function settleFound({ scope, call, settlement, stillRuns }: Paying, found: Finding | undefined): Promise<void> {
  if (found === undefined && stillRuns?.() === true) return
  const used = found === undefined ? undefined : call.used(found.usage, found.serviceTier)
  if (found !== undefined && used !== undefined) {
    return settlement.settle(used.amounts, answerOf(used, found.responseId))
  }
  await settlement.charge('the answer has no usage that could be priced')
  const model = call.action.resource
  // The tier is the provider's text, and this goes into a record.
  const tier = found?.serviceTier?.slice(0, 64).toWellFormed() ?? 'default'
  const message =
    found === undefined
      ? `An answer of \`${model}\` came without usage and was charged at its worst case. Let the server send usage (for streams: stream_options.include_usage), or lower max tokens.`
      : `An answer of \`${model}\` used something without a price (service tier ${tier}) and was charged at its worst case. Add the price to openKernel({ prices }).`
  scope.report({ type: 'assumed', message })
}

/** Whether an error answer costs nothing. A timeout (408) may have been worked on, and 5xx always may. */
export function isUnbilled(status: number, unbilledStatuses: readonly number[] | undefined): boolean {
  return unbilledStatuses?.includes(status) ?? isUnbilledByDefault(status)
}

/** Errors of a connection that never was: nothing was sent, so nothing was billed. */
const NEVER_SENT: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'])
/** The same only while connecting: a route may also be lost under a connection over which a request went. */
const NEVER_SENT_ON_CONNECT: ReadonlySet<unknown> = new Set(['EHOSTUNREACH', 'ENETUNREACH'])

/** Whether a failed request never left this machine. Looks through `.cause`, at most eight levels deep. */
export function isNeverSent(error: unknown): boolean {
  return causesOf(error).some((cause) => NEVER_SENT.has(cause['code']) || (NEVER_SENT_ON_CONNECT.has(cause['code']) && isOfConnect(cause)))
}

/** A host with several addresses fails with one error for each, which are all of `connect` or were never tried. */
function isOfConnect({ syscall, errors }: ErrorFields): boolean {
  if (!Array.isArray(errors)) return syscall === 'connect'
  return errors.length > 0 && errors.every((one: unknown) => (one as ErrorFields | null)?.['syscall'] === 'connect')
}

/**
 * What a record may say of an error: names, codes and statuses, at most 200 characters. Messages are left out,
 * since a provider may quote the prompt in them, and a record is kept for good.
 */
export function faultOf(error: unknown): string {
  const labels = causesOf(error).flatMap(({ name, code, status, statusCode }) => [name, code, status, statusCode].filter(isLabel))
  return [...new Set(labels)].join(' ').slice(0, 200) || typeof error
}

function isLabel(value: unknown): boolean {
  return (typeof value === 'string' && /^[\w.-]{1,40}$/.test(value)) || (typeof value === 'number' && Number.isInteger(value))
}

type ErrorFields = Readonly<Record<string, unknown>>

/** An error and its causes, outermost first, at most eight. */
function causesOf(error: unknown): readonly ErrorFields[] {
  const levels: ErrorFields[] = []
  for (let level = error; typeof level === 'object' && level !== null && levels.length < 8; level = levels.at(-1)!['cause'])
    levels.push(level as ErrorFields)
  return levels
}

/** Ends an exchange that was answered with an error. */
export async function endFailed({ status, headers }: Response, { scope, settlement, unbilledStatuses, account }: Exchange): Promise<void> {
  const waitMs = account === undefined ? undefined : retryAfterMs(status, headers)
  if (waitMs !== undefined) scope.pause(account!, waitMs, `the provider answered ${status} and asked for ${waitMs} ms`)
  if (isUnbilled(status, unbilledStatuses)) await settlement.release(`status ${status} is not billed`)
  else await settlement.charge(`status ${status} may have been billed`)
}

/** How long a provider asks to wait, ms: `retry-after-ms`, or `retry-after` in seconds or as a date; `undefined` where it does not. */
function retryAfterMs(status: number, headers: Headers): number | undefined {
  if (status !== 429 && status !== 503) return undefined
  const [exact, rough] = [headers.get('retry-after-ms'), headers.get('retry-after')]
  const waits = [
    exact === null ? Number.NaN : Number(exact),
    rough === null ? Number.NaN : Number(rough) * 1_000,
    rough === null ? Number.NaN : Date.parse(rough) - Date.now(),
  ]
  const waitMs = waits.find((ms) => Number.isFinite(ms) && ms > 0)
  return waitMs === undefined ? undefined : Math.ceil(waitMs)
}

/** A stream that broke after its usage was there is settled with it; before, nobody knows. `reason` is bounded and quotes nobody. */
export async function endBroken(exchange: Exchange, found: Finding | undefined, reason: string): Promise<void> {
  if (found === undefined && exchange.stillRuns?.() === true) return
  if (found === undefined) await exchange.settlement.charge(reason)
  else await settleFound(exchange, found)
}
