// What no successor could end is ended by an operator, from the bill and from the trail of the dead process.

import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { attempt } from './attempt.ts'
import type { Call } from './books.ts'
import type { Process, Site } from './site.ts'

const EVIDENCE = { by: 'operator', reason: 'the bill of the provider' } as const

interface Suspended {
  readonly legs: Readonly<Record<string, { readonly amount: number }>>
  readonly reported?: { readonly used: Readonly<Record<string, number>> }
}

/** Ends what is in suspense: one half by the bill, the other at worst. */
export async function reclaimAll(site: Site, kernel: Kernel): Promise<void> {
  const { world, truth, habits } = site
  for (const [at, { key, value }] of truth.list('suspended/', { limit: 10_000 }).entries()) {
    const [, boot, hold] = key.split('/') as [string, string, string]
    const name = { process: boot, hold, ...EVIDENCE }
    const used = usedOf(site, boot, hold, value as unknown as Suspended)
    // A lease that is written off is spent whole; nobody could say then how much that may be.
    const isLease = (value as unknown as Suspended).reported !== undefined
    // What holds nothing has nothing that could be named.
    const holdsNothing = Object.keys(used).length === 0
    if (holdsNothing || (at % 2 === 1 && !isLease && habits.operatorSays === 'the-bill'))
      await attempt(site, 'writing off', () => kernel.writeOff(name))
    else await attempt(site, 'reclaiming', () => kernel.reclaim({ ...name, used }))
  }
  await kernel.sweep()
  if (truth.list('suspended/', { limit: 1 }).length > 0) world.fail('an operator could not end what is in suspense')
}

/** What a hold or a lease has used of what it still has, by the bill. */
export function usedOf(
  { books, habits, processes }: Site,
  boot: string,
  hold: string,
  { legs, reported }: Suspended,
): Record<string, number> {
  const used: Record<string, number> = {}
  const calls = callsOf(books.calls, processes, boot, hold)
  for (const [leg, { amount }] of Object.entries(legs)) {
    const dimension = leg.slice(0, leg.indexOf('/'))
    const sum = calls.reduce((sum, call) => sum + spentOf(call, dimension), 0) - (reported?.used[dimension] ?? 0)
    used[dimension] = habits.operatorSays === 'nothing' ? 0 : Math.min(amount, Math.max(0, sum))
  }
  return used
}

/** The calls of a hold, or those that were drawn from a lease: the trail says which. */
function callsOf(calls: readonly Call[], processes: readonly Process[], boot: string, hold: string): readonly Call[] {
  const own = calls.filter((one) => one.boot === boot)
  const lines = processes.find(({ kernel }) => kernel?.boot === boot)?.kernel?.auditLines ?? []
  const drawn = new Set(
    lines
      .map((line) => JSON.parse(line) as { kind: string; hold?: string; lease?: string })
      .filter(({ kind, lease }) => kind === 'intent' && lease === hold)
      .map((record) => record.hold),
  )
  return own.filter((one) => one.hold === hold || drawn.has(one.hold))
}

/** What a lease counts for a call: what it was told, at most what the call held; and at least what was billed. */
function spentOf({ told, worst, billed }: Call, dimension: string): number {
  const most = worst[dimension] ?? 0
  if (told?.how === 'charged') return most
  return Math.min(most, Math.max(billed[dimension] ?? 0, told?.how === 'settled' ? (told.used[dimension] ?? most) : 0))
}
