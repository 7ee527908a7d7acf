// Soft thresholds: when so much of a budget is used or set aside, its operator is told once, and agents that go on
// spending it are told with each hold, so that they come to an end by themselves before the limit does it.

import { amountOf, formatAmount } from '../lib/amounts.ts'
import type { Level } from './legs.ts'
import { homeOf, isRate, parseWindowPath } from './windows/window.ts'

/** A threshold that was passed. */
export interface Warning {
  readonly budget: string
  readonly dimension: string
  /** The threshold, from 0 to 1. */
  readonly share: number
  readonly message: string
}

/** What this process knows of how much is left. */
export interface Warnings {
  /** So much of a level is free now. */
  note(levels: readonly Level[], level: Level, dimension: string, free: number): void
  /** Whether nothing has been noted that anybody could be told of. */
  isQuiet(): boolean
  /** What a model on this path should be told; `undefined` as long as there is enough of everything. */
  noticeFor(levels: readonly Level[]): string | undefined
}

interface Known {
  readonly limit: number
  /** The highest threshold that was told of under this limit. */
  told: number
  /** The one that is passed now; 0: none. */
  now: number
}

/** Most legs that a process remembers. */
const MAX_KNOWN = 10_000

/** Makes the warnings; each threshold of each limit is told once. */
export function createWarnings(tell: (warning: Warning) => void): Warnings {
  const known = new Map<string, Known>()
  return {
    note(levels, { path, record }, dimension, free) {
      const home = levels.find((level) => level.path === homeOf(path))?.record
      const thresholds = home?.warnAt
      // A minute is soon over; nobody has to be told how far it has come.
      if (thresholds === undefined || isRate(path)) return
      // What is free of a window that rolls is in its last part, whose own limit is only what it was left.
      const window = home?.windows?.[parseWindowPath(path)?.name ?? '']
      const limit = amountOf(window?.rolling === undefined ? record.limits : window.limits, dimension)
      const share = Math.max(0, ...thresholds.filter((one) => limit - free >= one * limit))
      const key = `${dimension}/${path}`
      const before = known.get(key)
      if (known.size >= MAX_KNOWN && before === undefined) known.clear()
      const told = before?.limit === limit ? before.told : 0
      known.set(key, { limit, told: Math.max(told, share), now: share })
      if (share <= told) return
      const write = (amount: number): string => formatAmount(dimension, amount)
      const message = `Budget \`${path}\`: ${percent(share)} of ${write(limit)} ${dimension} is used or set aside; ${write(free)} is free.`
      tell({ budget: path, dimension, share, message })
    },
    isQuiet: () => known.size === 0,
    noticeFor(levels) {
      if (known.size === 0) return undefined
      let share = 0
      for (const { path, record } of levels)
        for (const dimension of Object.keys(record.limits)) share = Math.max(share, known.get(`${dimension}/${path}`)?.now ?? 0)
      return share === 0
        ? undefined
        : `${percent(share)} of the budget for this work is used up. Spend the rest on what matters most, and answer before it ends.`
    },
  }
}

const percent = (share: number): string => `${Math.round(share * 100)} %`
