// One HTTP attempt, from its hold to its end. However it ends, the hold ends once: settled from the answer's own
// usage, released where a provider does not bill, charged at worst where nobody can know.

import type { Scope } from '../src/waist/scope.ts'
import type { Settlement } from '../src/waist/hold.ts'
import type { Drains } from './drains.ts'
import type { Endpoint, Finding } from './endpoint.ts'
import type { ModelCall } from './model-call.ts'

/** One request and its answer. */
export interface Exchange {
  readonly scope: Scope
  readonly endpoint: Endpoint
  readonly call: ModelCall
  readonly settlement: Settlement
  /** The body as the caller wrote it. */
  readonly original: Readonly<Record<string, unknown>>
  readonly drains: Drains
  readonly unbilledStatuses: readonly number[] | undefined
}

/** Settles with what the answer says; charges the worst case, and says so, when it says nothing usable. */
export async function settleFound({ scope, call, settlement }: Exchange, found: Finding | undefined): Promise<void> {
  const used = found === undefined ? undefined : call.used(found.usage, found.serviceTier)
  if (found !== undefined && used !== undefined) {
    const { responseId } = found
    const { amounts, priceSource } = used
    return settlement.settle(amounts, {
      ...(responseId === undefined ? {} : { responseId }),
      ...(priceSource === undefined ? {} : { priceSource }),
    })
  }
  const model = call.action.resource
  const message =
    found === undefined
      ? `An answer of \`${model}\` came without usage and was charged at its worst case. Let the server send usage (for streams: stream_options.include_usage), or lower max tokens.`
      : `An answer of \`${model}\` used something without a price (service tier ${found.serviceTier ?? 'default'}) and was charged at its worst case. Add the price to openKernel({ prices }).`
  scope.report({ type: 'assumed', message })
  return settlement.charge('the answer has no usage that could be priced')
}

/** Whether an error answer costs nothing. A timeout (408) may have been worked on, and 5xx always may. */
export function isUnbilled(status: number, unbilledStatuses: readonly number[] | undefined): boolean {
  return unbilledStatuses?.includes(status) ?? (status >= 400 && status < 500 && status !== 408)
}

/** Errors of a connection that never was: nothing was sent, so nothing was billed. */
const NEVER_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

/** Whether a failed request never left this machine. Looks through `.cause`, at most eight levels deep. */
export function isNeverSent(error: unknown): boolean {
  for (let level = error, depth = 0; typeof level === 'object' && level !== null && depth < 8; depth++) {
    const { code, cause } = level as { code?: unknown; cause?: unknown }
    if (typeof code === 'string' && NEVER_SENT.has(code)) return true
    level = cause
  }
  return false
}

/** Ends an exchange that was answered with an error. */
export async function endFailed(status: number, { settlement, unbilledStatuses }: Exchange): Promise<void> {
  if (isUnbilled(status, unbilledStatuses)) await settlement.release(`status ${status} is not billed`)
  else await settlement.charge(`status ${status} may have been billed`)
}

/** A stream that broke after its usage was there is settled with it; before, nobody knows. */
export async function endBroken(exchange: Exchange, found: Finding | undefined, reason: string): Promise<void> {
  if (found === undefined) await exchange.settlement.charge(reason)
  else await settleFound(exchange, found)
}
