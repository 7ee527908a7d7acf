// The end of a soak: what dead processes left is put in order, as by whoever comes next; then nothing is held any more,
// and what the ledger says must be explained to the last nano-dollar by the bill and by what nobody could know.

import { guardFetch } from '../integrations/transport/guard-fetch.ts'
import { verifyAudit } from '../src/audit/verify.ts'
import { openKernel, type Kernel } from '../src/kernel/open-kernel.ts'
import { sleep } from '../src/lib/clock.ts'
import { HoldfastError } from '../src/lib/errors.ts'
import { listAll } from '../src/stores/entries.ts'
import type { HoldRecord } from '../src/budget/processes.ts'
import type { Entry } from '../src/stores/store.ts'
import type { Happened } from './chaos.ts'
import { accountOf, faultOfRefusal, faultsAtTheEnd, known, ledgerOf, look } from './checks.ts'
import type { Member } from './crew.ts'
import { DEAREST_CALL, OUTPUT_TOKENS, ROOT, TEAMS, teamMark } from './market.ts'
import { LEASE_TTL_MS, type Run } from './options.ts'
import { dataOf } from './site.ts'
import type { Treasury } from './treasury.ts'

/** How it ended. */
export interface Conclusion {
  /** What the ledger counts as spent beyond the bill, and the most that it may be; nano-USD. */
  readonly waste: number
  readonly wasteBound: number
  /** What is in suspense: of processes that had no successor. */
  readonly suspense: number
  /** How many those are. */
  readonly stranded: number
  readonly chains: number
  /** Refusals `EXCEEDED` that were wrong. */
  readonly wrongRefusals: number
  readonly faults: readonly string[]
}

const SETTLE_MS = 40_000
/** Worst case of a call: every byte of its request a token, and its cap; no request of ours is longer. */
const WORST_CALL = 320 * 150 + OUTPUT_TOKENS * 600

/** Puts everything in order and judges it. */
export async function conclude(run: Run, members: readonly Member[], happened: Happened): Promise<Conclusion> {
  const { site, store, market, looks, told, treasury } = run
  const kernel = await openKernel({ store, data: dataOf(site.direct), leaseTtlMs: LEASE_TTL_MS, waitMs: 0, onEvent: () => undefined })
  const faults: string[] = []
  if (!(await settleAll(run, kernel))) faults.push('not everything came back')
  await look(market, () => ledgerOf(store), looks)
  faults.push(...faultsAtTheEnd(looks.accounts, market.truth()))
  if (!market.agrees()) faults.push('HARNESS: the provider has another bill than the market')

  const root = accountOf(looks.accounts, ROOT, 'usd')!
  const waste = known(root) - (market.truth()[`usd/${ROOT}`] ?? 0)
  const suspended = await listAll(store, 'suspended/')
  const stranded = new Set(suspended.map(({ key }) => key.split('/')[1])).size
  const callers = members[0]!.orders.callers
  const wasteBound =
    strandedBound(suspended, treasury) + (market.unknown.calls + happened.kills * callers) * WORST_CALL - market.unknown.nanoUsd
  if (waste < 0 || waste > wasteBound) faults.push(`the waste of ${waste} is not within 0 and ${wasteBound}`)

  const wrong = told.exceeded.flatMap((refusal) => faultOfRefusal(refusal, treasury.raises) ?? [])
  faults.push(...wrong.slice(0, 5))
  faults.push(...(await lostWrites(run)), ...(await callsThatShouldPass(run, kernel)))
  await kernel.close()
  const chains = await verifyAudit(dataOf(site.direct), store)
  for (const { ok, chain, fault } of chains) if (!ok) faults.push(`chain ${chain}: ${fault}`)
  return { waste, wasteBound, suspense: root.suspense, stranded, chains: chains.length, wrongRefusals: wrong.length, faults }
}

/** Sweeps until nothing is held and no child has money; false when that does not come. */
async function settleAll({ store }: Run, kernel: Kernel): Promise<boolean> {
  const until = performance.now() + SETTLE_MS
  while (performance.now() < until) {
    try {
      await kernel.sweep()
      const open = [...(await listAll(store, 'hold/')), ...(await listAll(store, 'allotted/'))]
      if (open.length === 0) return true
    } catch (error) {
      if (!HoldfastError.isInstance(error)) throw error
    }
    await sleep(100)
  }
  return false
}

/** What processes without a successor may strand: one chunk of each budget that they used, and their calls. */
function strandedBound(suspended: readonly Entry[], { raises }: Treasury): number {
  // A chunk is an eighth of what is free at most.
  const chunk = Math.ceil(raises.at(-1)!.limits[`usd/${ROOT}`]! / 8)
  return suspended.reduce((sum, { value }) => sum + ((value as unknown as HoldRecord).reported === undefined ? WORST_CALL : chunk), 0)
}

/** Writes to the blackboard that were acknowledged and are not there. */
async function lostWrites({ store, told }: Run): Promise<string[]> {
  const entries = await store.read(TEAMS.map((team) => `bb/shared/${team}`))
  return TEAMS.flatMap((team, index) => {
    const there = (entries[index]?.value as { value?: number } | undefined)?.value ?? 0
    const acknowledged = told.counts[`written/${team}`] ?? 0
    return there < acknowledged ? [`${acknowledged} writes of ${team} were acknowledged, ${there} are there`] : []
  })
}

/** With money left on every level, a call of every team is granted at once. */
async function callsThatShouldPass({ treasury, market }: Run, kernel: Kernel): Promise<string[]> {
  await treasury.raise(100 * DEAREST_CALL)
  const faults: string[] = []
  for (const team of TEAMS) {
    const send = guardFetch(kernel.scope({ agent: 'parent', task: 'afterwards', budget: `${ROOT}/${team}` }))
    const body = {
      model: 'gpt-4o-mini',
      messages: [{ role: 'user', content: `${teamMark(team)} is anybody there` }],
      max_completion_tokens: 1,
    }
    const before = market.billed
    const signal = AbortSignal.timeout(2_000)
    const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal }
    const status = await send(`${market.baseURL}/chat/completions`, request).then(
      (response) => response.status,
      () => 0,
    )
    // What the provider makes of it is its own affair: it got there.
    if (market.billed === before && status !== 429) faults.push(`with money left, a call of ${team} was answered ${status}`)
  }
  return faults
}
