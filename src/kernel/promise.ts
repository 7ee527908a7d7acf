// Does the store keep what the budgets promise? A limit is hard only on a store that never forgets what it has
// acknowledged; on less, the kernel says so before anything is spent.

import { HoldfastError } from '../lib/errors.ts'
import type { Shortfall, Store } from '../stores/store.ts'

/** What a limit is: never exceeded, or exceeded by at most what the store can lose. */
export type Promised = 'hard' | 'bounded'

/** Settings of the server that could not be read, as the operator knows them to be. */
export type Assumed = Readonly<Record<string, string>>

/**
 * Compares a store with a promise.
 *
 * @throws {TypeError} For a promise or an assumption that cannot be understood.
 * @throws {HoldfastError} `ERR_PROMISE` naming each setting, what it has to be, and what can happen as it is.
 */
export function assertPromise(store: Store, promised: Promised, assumed: Assumed): void {
  if (promised !== 'hard' && promised !== 'bounded')
    throw new TypeError(`\`promise\` must be 'hard' or 'bounded', got ${JSON.stringify(promised)}.`)
  const shortfalls = store.capabilities.shortfalls ?? []
  for (const [setting, value] of Object.entries(assumed)) assertAssumable(store, setting, value)
  if (promised === 'bounded') return
  const short = shortfalls.filter((shortfall) => !isAssumed(shortfall, assumed))
  if (short.length === 0) return
  const lines = short.map(describe).join(' ')
  throw new HoldfastError(
    'ERR_PROMISE',
    `${store.name} cannot keep a hard budget. ${lines} Change that, or open the kernel with \`promise: 'bounded'\`: then a limit may be exceeded by what the store loses.`,
  )
}

function assertAssumable(store: Store, setting: string, value: string): void {
  if (typeof value !== 'string' || value === '') throw new TypeError(`\`assume.${setting}\` must say what the setting is.`)
  const shortfall = store.capabilities.shortfalls?.find((one) => one.setting === setting)
  if (shortfall?.found === undefined || shortfall.found === value) return
  throw new TypeError(`\`assume.${setting}\`: ${store.name} says that it is ${JSON.stringify(shortfall.found)}, so it cannot be assumed.`)
}

/** A need that is one word must be met to the letter; one that is described is the operator's to judge. */
function isAssumed({ setting, found, needs }: Shortfall, assumed: Assumed): boolean {
  const value = found === undefined ? assumed[setting] : undefined
  return value !== undefined && (needs.includes(' ') || value === needs)
}

function describe({ setting, found, needs, risk }: Shortfall): string {
  if (found !== undefined) return `\`${setting}\` is ${JSON.stringify(found)} and must be ${JSON.stringify(needs)}: ${risk}`
  const stated = `assume: { '${setting}': '${needs}' }`
  return `\`${setting}\` could not be read, and must be ${JSON.stringify(needs)} (if you know that it is, say so: \`${stated}\`): ${risk}`
}
