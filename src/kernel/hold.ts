// A hold, from `begin` to its one end. The order of an end is: record on disk, then the store. So a caller who
// has paid for an answer keeps it, whatever the store does.

import type { Amounts } from '../lib/amounts.ts'
import { amountOf, assertAmounts, zeroed } from '../lib/amounts.ts'
import { HoldfastError, type Refusal } from '../lib/errors.ts'
import type { Overrun } from '../budget/ending.ts'
import type { Grant } from '../budget/hold-writer.ts'
import type { Ledger } from '../budget/ledger.ts'
import type { Clock } from '../lib/clock.ts'
import type { Answer, Hold, Settlement } from '../waist/hold.ts'
import type { Log } from '../waist/log.ts'
import type { KernelEvent } from './events.ts'
import type { RecentIds } from './recent-ids.ts'
import type { Reports } from './reports.ts'

/** What all holds of a kernel share. */
export interface HoldContext {
  readonly ledger: Ledger
  readonly log: Log
  readonly clock: Clock
  readonly reports: Reports
  readonly holdDeadlineMs: number
  readonly emit: (event: KernelEvent) => void
  /** Response ids that an HTTP attempt has paid for. */
  readonly paidResponses: RecentIds
  /** Holds that have not ended, claimed or not; `close` charges them. */
  readonly open: Set<Settlement>
}

const DEADLINE = 'its deadline passed'

/** What else there is to know of a hold. */
export interface HoldExtras {
  /** What it was narrowed to; 0: nothing. */
  readonly outputTokens: number
  /** Calls back when the action should not go on. Returns the stop function. */
  readonly listen: (cut: (refusal: Refusal) => void) => () => void
}

type Ended = { readonly how: 'settled' | 'released' | 'charged'; readonly used: Amounts }

/** Makes the hold of a grant. */
export function createHold(grant: Grant, owner: Hold['owner'], context: HoldContext, { outputTokens, listen }: HoldExtras): Hold {
  const { ledger, log, clock, reports, emit, open, paidResponses } = context
  const deadlineAtMs = clock.now() + context.holdDeadlineMs
  let ended: Ended | undefined
  let claimed = false
  let expected: Amounts | undefined
  let cutting: AbortController | undefined
  let stopListening: (() => void) | undefined

  const about = { hold: grant.holdId, budget: grant.path }
  const timer = setTimeout(() => void end('charged', grant.amounts, { reason: DEADLINE }), context.holdDeadlineMs)
  timer.unref()

  async function end(how: Ended['how'], used: Amounts, note: { reason?: string; answer?: Answer | undefined }): Promise<void> {
    // Past its deadline a stream still runs, and can still be cut.
    if (note.reason !== DEADLINE) stopListening?.()
    // Whoever knows better after the worst case was charged, corrects it: with the usage, or with nothing at all.
    const late = ended?.how === 'charged' && how !== 'charged'
    if (ended !== undefined && !late) {
      if (ended.how === how && (how !== 'settled' || sameAmounts(ended.used, used))) return
      throw new HoldfastError(
        'ERR_HOLD_STATE',
        `Hold ${grant.holdId} is ${ended.how} already; it cannot be ${how}${how === 'settled' ? ' with other amounts' : ''}.`,
      )
    }
    ended = { how, used }
    clearTimeout(timer)
    open.delete(byAttempt)
    recordEnd(how, used, note)
    await reports.send(
      async () => {
        const overrun = await ledger.end(grant, used, how === 'charged' ? 'charge' : 'settle')
        if (overrun !== undefined) emit({ type: 'overrun', message: overrunMessage(grant, used, overrun) })
      },
      (error) => emit({ type: 'report-delayed', message: `The end of hold ${grant.holdId} waits for the store: ${String(error)}` }),
    )
  }

  function recordEnd(how: Ended['how'], used: Amounts, { reason, answer }: { reason?: string; answer?: Answer | undefined }): void {
    try {
      log.append('outcome', {
        ...about,
        outcome: how,
        used,
        ...(how === 'charged' ? { assumed: true } : {}),
        ...(reason === undefined ? {} : { reason }),
        ...answer,
      })
    } catch (error) {
      // The answer is paid for and the ledger will have it; only the trail has a gap, and that must be known.
      emit({ type: 'audit-gap', message: `The outcome of hold ${grant.holdId} could not be recorded: ${String(error)}` })
    }
  }

  function recordEscape(message: string): void {
    try {
      const { agent, task } = owner
      log.append('event', { type: 'escape', agent, task, ...about, message })
    } catch (error) {
      emit({ type: 'audit-gap', message: `An escape of hold ${grant.holdId} could not be recorded: ${String(error)}` })
    }
  }

  // What an HTTP attempt says of its hold is final.
  const byAttempt: Settlement = {
    async settle(used, answer) {
      assertAmounts('usage', used)
      if (answer?.responseId !== undefined && answer.responseId !== '') paidResponses.add(answer.responseId)
      await end('settled', complete(grant, used), { answer })
      compare()
    },
    release: (reason) => end('released', zeroed(grant.amounts), { reason }),
    charge: (reason) => end('charged', grant.amounts, { reason }),
  }

  function compare(): void {
    if (expected === undefined || ended?.how !== 'settled' || sameAmounts(ended.used, expected)) return
    const message = `The framework counted ${JSON.stringify(expected)} for hold ${grant.holdId}, the wire says ${JSON.stringify(ended.used)}; the wire counts.`
    expected = undefined
    emit({ type: 'escape', message })
    recordEscape(message)
  }

  const hold: Hold = {
    id: grant.holdId,
    owner,
    amounts: grant.amounts,
    caps: outputTokens > 0 ? { maxOutputTokens: outputTokens } : {},
    notice: ledger.noticeFor(grant.levels),
    deadlineAtMs,
    get state() {
      return ended?.how ?? 'held'
    },
    get cut() {
      if (cutting === undefined) {
        const controller = (cutting = new AbortController())
        if (ended === undefined) stopListening = listen((refusal) => controller.abort(refusal))
      }
      return cutting.signal
    },
    async settle(used, answer) {
      assertAmounts('usage', used)
      if (!claimed) {
        // One answer is paid once: if an attempt paid for it from a hold of its own, this one goes back.
        if (ended === undefined && answer?.responseId !== undefined && paidResponses.has(answer.responseId)) {
          return end('released', zeroed(grant.amounts), { reason: `response ${answer.responseId} was paid by its HTTP attempt` })
        }
        return end('settled', complete(grant, used), { answer })
      }
      expected = complete(grant, used)
      compare()
    },
    async release(reason) {
      if (!claimed) await end('released', zeroed(grant.amounts), { reason })
    },
    async charge(reason) {
      if (!claimed) await end('charged', grant.amounts, { reason })
    },
    claim() {
      if (claimed || ended !== undefined) return undefined
      claimed = true
      return byAttempt
    },
  }
  open.add(byAttempt)
  return hold
}

/** Usage with every held dimension named: what nobody counted is taken to be used up. */
function complete(grant: Grant, used: Amounts): Amounts {
  return { ...grant.amounts, ...used }
}

function sameAmounts(one: Amounts, other: Amounts): boolean {
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].every(
    (dimension) => amountOf(one, dimension) === amountOf(other, dimension),
  )
}

function overrunMessage({ holdId, amounts, path }: Grant, used: Amounts, overrun: Overrun): string {
  const consequence = {
    covered: 'Free money covered it.',
    frozen: `No free money covered it, so the tree of \`${path}\` is frozen.`,
    over: 'What no free money covered is counted beside the limit: this process only observes.',
  }[overrun]
  return `Hold ${holdId} used ${JSON.stringify(used)}, more than its worst case ${JSON.stringify(amounts)}: a price or a bound is wrong. ${consequence}`
}
