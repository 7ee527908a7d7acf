// The provider, with a bill that is only ever added to. It bills a request when it arrives, whatever becomes of the
// answer: late, without usage, an error, or lost.

import type { Amounts } from '../../src/lib/amounts.ts'
import type { Books, Call } from './books.ts'
import type { Dice } from './dice.ts'
import type { Plan } from './plan.ts'
import type { Truth } from './truth.ts'
import type { World } from './world.ts'

/** What comes back from the provider; nothing comes back from a request or an answer that was lost. */
export interface Answer {
  readonly status: 200 | 400 | 500
  readonly usage?: Amounts
}

/** What becomes of a request. `rejected` is the one that is provably not billed. */
export type Fate = 'answered' | 'late' | 'no-usage' | 'failed-billed' | 'failed' | 'rejected' | 'cut' | 'lost' | 'overrun'

/** The provider of a run. */
export interface Provider {
  /** Sends a request under a hold. */
  send(call: Call): Promise<Answer>
}

/** Odds of each fate; the rest is answered. */
export type FateOdds = Readonly<Partial<Record<Fate, number>>>

/** What a call uses at most beyond its worst case, where the provider breaks its word. */
const MOST_OVERRUN = 6

/** Makes the provider of a run. */
export function createProvider(world: World, truth: Truth, books: Books, dice: Dice, { fates: odds, workMs }: Plan): Provider {
  function fateOf(): Fate {
    let left = dice.random()
    for (const [fate, probability] of Object.entries(odds) as [Fate, number][]) {
      left -= probability
      if (left < 0) return fate
    }
    return 'answered'
  }

  /** What the call uses; each call is one call, whatever it uses of the rest. */
  function usageOf({ worst }: Call, fate: Fate): Amounts {
    const tokens = dice.int(0, worst['tokens'] ?? 0)
    if (fate === 'rejected' || fate === 'failed') return { ...worst, tokens: 0, calls: 0 }
    return { ...worst, tokens: fate === 'overrun' ? (worst['tokens'] ?? 0) + dice.int(1, MOST_OVERRUN) : tokens }
  }

  function bill(call: Call, fate: Fate, used: Amounts): void {
    call.underway -= 1
    const excess = fate === 'overrun' ? { tokens: used['tokens']! - (call.worst['tokens'] ?? 0) } : {}
    world.tell(() => `the provider bills ${JSON.stringify(used)} for ${call.hold} on ${call.path} (${fate})`)
    truth.auditBill(books.bill(call, used, excess))
  }

  return {
    send(call) {
      return new Promise((resolve) => {
        const { actor } = call
        if (!world.interact(actor, 'a call')) return
        const fate = fateOf()
        const used = usageOf(call, fate)
        world.meet(`the provider: ${fate}`)
        if (fate === 'lost') return
        call.underway += 1
        const wayMs = (dice.random() * workMs) / 5
        const atWorkMs = dice.random() * (fate === 'late' ? 6_000 : workMs)
        world.after(wayMs, world.nobody, () => {
          bill(call, fate, used)
          if (fate === 'cut') return
          world.after(atWorkMs, actor, () => resolve(answerOf(fate, used)))
        })
      })
    },
  }
}

function answerOf(fate: Fate, used: Amounts): Answer {
  if (fate === 'rejected') return { status: 400 }
  if (fate === 'failed' || fate === 'failed-billed') return { status: 500 }
  return fate === 'no-usage' ? { status: 200 } : { status: 200, usage: used }
}
