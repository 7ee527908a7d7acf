// Who decides how much there is: little at first, so that it runs out at once and the tail of it is soaked too (chunks
// that shrink to single calls, recalls, refusals); and each time that it has been out for a while, a higher revision
// with as much more as lasts for a part of what is left of the run.

import { openKernel } from '../src/kernel/open-kernel.ts'
import { sleep } from '../src/lib/clock.ts'
import { HoldfastError } from '../src/lib/errors.ts'
import type { Store } from '../src/stores/store.ts'
import { accountOf, type Account, type Raise } from './checks.ts'
import { DEAREST_CALL, ROOT, TEAMS } from './market.ts'

/** Declares the budgets. */
export interface Treasury {
  /** All that was declared by now, the first time included. */
  readonly raises: readonly Raise[]
  /** Told of every look; raises the limits when their time has come. */
  attend(accounts: readonly Account[]): Promise<void>
  /** Raises the limits by this much, in nano-USD. */
  raise(by: number): Promise<void>
}

/** Options of {@link openTreasury}. */
export interface TreasuryOptions {
  readonly store: Store
  readonly data: string
  /** First limit of the root, in nano-USD. */
  readonly limit: number
  /** How long the whole run is. */
  readonly runMs: number
}

/** Each team may use this part of the root; together they may use more than there is. */
const TEAM_SHARE = 0.6
/** Of the run: how long nothing is left before more is given, and how long that is to last. */
const DRY_SHARE = 0.06
const LAST_SHARE = 0.2
const MAX_DRY_MS = 5_000
/** A page is declared for so many nano-USD; a little less than what is printed, so that pages run out first at times. */
const NANO_USD_PER_PAGE = 330_000
const NANO_USD_PER_TOKEN = 100
const NANO_USD_PER_CALL = 5_000

/** Declares the first limits. */
export async function openTreasury({ store, data, limit: first, runMs }: TreasuryOptions): Promise<Treasury> {
  const raises: Raise[] = []
  const startedMs = performance.now()
  let limit = first
  let givenAtMs = startedMs
  let dryAtMs: number | undefined

  async function declare(): Promise<void> {
    const revision = raises.length + 1
    const budgets = { [ROOT]: { ...limitsOf(limit), revision }, [`${ROOT}/*`]: { ...limitsOf(Math.floor(limit * TEAM_SHARE)), revision } }
    for (;;) {
      try {
        const kernel = await openKernel({ store, data, budgets, onEvent: () => undefined })
        await kernel.close()
        break
      } catch (error) {
        // The server may be down just now; the same revision says the same, however often.
        if (!HoldfastError.isInstance(error) || error.code !== 'ERR_STORE') throw error
      }
      await sleep(200)
    }
    raises.push({ atMs: Date.now(), limits: inForce(limit) })
    givenAtMs = performance.now()
    dryAtMs = undefined
  }

  async function raise(by: number): Promise<void> {
    limit += Math.ceil(by)
    await declare()
  }

  await declare()
  return {
    raises,
    raise,
    async attend(accounts) {
      const root = accountOf(accounts, ROOT, 'usd')
      const teams = TEAMS.map((team) => accountOf(accounts, `${ROOT}/${team}`, 'usd'))
      const isDry = (account: Account | undefined): boolean => account !== undefined && account.free + account.out < 4 * DEAREST_CALL
      const now = performance.now()
      if (!isDry(root) && !teams.every(isDry)) return
      dryAtMs ??= now
      if (now - dryAtMs < Math.min(MAX_DRY_MS, DRY_SHARE * runMs)) return
      const perMs = (root!.limit - (raises.at(-2)?.limits[`usd/${ROOT}`] ?? 0)) / (dryAtMs - givenAtMs)
      await raise(Math.max(100 * DEAREST_CALL, Math.min(perMs * LAST_SHARE * runMs, 4 * limit)))
    },
  }
}

const limitsOf = (nanoUsd: number) => ({
  usd: (nanoUsd / 1e9).toFixed(9),
  tokens: Math.floor(nanoUsd / NANO_USD_PER_TOKEN),
  calls: Math.floor(nanoUsd / NANO_USD_PER_CALL),
  pages: Math.ceil(nanoUsd / NANO_USD_PER_PAGE),
})

function inForce(limit: number): Readonly<Record<string, number>> {
  const limits: Record<string, number> = {}
  for (const [budget, nanoUsd] of [
    [ROOT, limit] as const,
    ...TEAMS.map((team) => [`${ROOT}/${team}`, Math.floor(limit * TEAM_SHARE)] as const),
  ]) {
    const { tokens, calls, pages } = limitsOf(nanoUsd)
    for (const [dimension, amount] of Object.entries({ usd: nanoUsd, tokens, calls, pages })) limits[`${dimension}/${budget}`] = amount
  }
  return limits
}
