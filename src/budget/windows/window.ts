// Windows: so much a minute, a day, a month. A window is a budget of its own that stands beside its budget on every
// path, `acme/*day/2026-11-20`; when it is over, the next one is another budget with another name. So nothing is
// ever set back: what was granted in a window is settled in it, however late.

import type { Amounts } from '../../lib/amounts.ts'

/** How long a window is. */
export type WindowUnit = 'minute' | 'hour' | 'day' | 'week' | 'month'

/** What `openKernel` is told of a window: `{ per: 'day', timeZone: 'Europe/Berlin', usd: 5 }`. */
export interface WindowDeclaration {
  /** A week begins on Monday. Minutes and hours are those of UTC. */
  readonly per: WindowUnit
  /** IANA name; of days, weeks and months. A day in which clocks change has 23 or 25 hours. @default 'UTC' */
  readonly timeZone?: string
  /**
   * In so many parts the window moves along instead of starting anew: what was used comes back one to one and a part
   * after it was granted, so that any stretch of this length stays within the limit. 2 to 60; not of months.
   *
   * @default undefined: it starts anew at its boundary, so that around one up to twice the limit may be used
   */
  readonly rolling?: number
  readonly usd?: number | string
  readonly tokens?: number
  readonly calls?: number
  /** Counters of your own, in whole units. */
  readonly [counter: string]: number | string | undefined
}

/** A window in the record of its budget, by its name. */
export type WindowRecord = {
  readonly per: WindowUnit
  readonly timeZone?: string
  readonly rolling?: number
  readonly limits: Amounts
  /** Id of the one that is current. It only moves forward. */
  readonly current?: string
  /** Of a rolling one: ids of the parts that count, oldest first. Their limits sum up to that of the window. */
  readonly live?: readonly string[]
}

const UNIT_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000, week: 604_800_000 } as const
const UNITS = [...Object.keys(UNIT_MS), 'month']
const MAX_PARTS = 60
/** No window is longer: a month of 31 days, and a clock that goes back. */
const LONGEST_MS = 32 * UNIT_MS.day
/** Days from the Unix epoch, a Thursday, to the Monday before it. */
const EPOCH_WEEKDAY = 3

/**
 * Reads the part of a declaration that says which window it is.
 *
 * @throws {TypeError} {RangeError} Naming the field.
 */
export function windowOf(field: string, { per, timeZone, rolling }: WindowDeclaration): Omit<WindowRecord, 'limits'> {
  if (!UNITS.includes(per)) throw new TypeError(`\`${field}.per\` must be one of ${UNITS.join(', ')}, got ${JSON.stringify(per)}.`)
  if (rolling !== undefined) {
    if (per === 'month') throw new TypeError(`\`${field}.rolling\`: months are not of one length; roll over weeks or days.`)
    if (!Number.isInteger(rolling) || rolling < 2 || rolling > MAX_PARTS || UNIT_MS[per] % rolling !== 0)
      throw new RangeError(
        `\`${field}.rolling\` must be a whole number of parts from 2 to ${MAX_PARTS} that divides a ${per}, got ${rolling}.`,
      )
  }
  if (timeZone === undefined) return { per, ...(rolling === undefined ? {} : { rolling }) }
  if (rolling !== undefined || per === 'minute' || per === 'hour')
    throw new TypeError(`\`${field}.timeZone\`: only days, weeks and months that start anew have one.`)
  try {
    formatterOf(timeZone)
  } catch (cause) {
    throw new RangeError(`\`${field}.timeZone\`: there is no time zone ${JSON.stringify(timeZone)}.`, { cause })
  }
  return { per, timeZone }
}

/** The name of a window among those of its budget. */
export const windowName = ({ per, rolling }: Pick<WindowRecord, 'per' | 'rolling'>): string =>
  rolling === undefined ? per : `rolling-${per}`

/** The path of one window. No name holds a `*`, so no budget is called like that. */
export const windowPath = (home: string, name: string, id: string): string => `${home}/*${name}/${id}`

const WINDOW_PATH = /^(.+)\/\*([^/]+)\/([^/]+)$/

/** What a path says about a window; `undefined` for that of any other budget. */
export function parseWindowPath(path: string): { readonly home: string; readonly name: string; readonly id: string } | undefined {
  const [, home, name, id] = WINDOW_PATH.exec(path) ?? []
  return home === undefined ? undefined : { home, name: name!, id: id! }
}

/** Whether a window of this name is kept in parts that move along. */
export const isRolling = (name: string | undefined): boolean => name?.startsWith('rolling-') === true

/** Whether a path is that of a window so short that it says how fast to go, not how far. */
export const isRate = (path: string): boolean => /(minute|hour)$/.test(parseWindowPath(path)?.name ?? '')

/** The budget that a path belongs to: its own, or that of the window. */
export const homeOf = (path: string): string => parseWindowPath(path)?.home ?? path

/** The id of the window that a moment lies in, Unix ms. Ids of one window sort by time. */
export function windowIdAt(window: WindowRecord, atMs: number): string {
  const { per, timeZone } = window
  const stepMs = stepOf(window)
  if (stepMs !== undefined) return instant(atMs, stepMs)
  const date = localDate(timeZone ?? 'UTC', atMs)
  if (per === 'day') return date
  if (per === 'month') return date.slice(0, 7)
  const day = Math.floor(Date.parse(`${date}T00:00Z`) / UNIT_MS.day)
  return new Date((day - ((day + EPOCH_WEEKDAY) % 7)) * UNIT_MS.day).toISOString().slice(0, 10)
}

/** When the window that a moment lies in is over, Unix ms. */
export function windowEndsAt(window: WindowRecord, atMs: number): number {
  const stepMs = stepOf(window)
  if (stepMs !== undefined) return (Math.floor(atMs / stepMs) + 1) * stepMs
  // Where a local day begins is for the time zone to say: some begin at one o'clock.
  const id = windowIdAt(window, atMs)
  let [inside, after] = [atMs, atMs + LONGEST_MS]
  while (after - inside > 1) {
    const middle = Math.floor((inside + after) / 2)
    if (windowIdAt(window, middle) === id) inside = middle
    else after = middle
  }
  return after
}

/** Whether what was granted in a part of a rolling window no longer counts when the part `current` begins. */
export function hasLeft({ per, rolling }: WindowRecord, part: string, current: string): boolean {
  const unitMs = UNIT_MS[per as keyof typeof UNIT_MS]
  // Its last moment has to lie a whole window back.
  return Date.parse(current) - Date.parse(part) >= unitMs + unitMs / rolling!
}

/** How long each is, ms, where that is no matter of a calendar. */
function stepOf({ per, rolling }: WindowRecord): number | undefined {
  if (per === 'month') return undefined
  if (rolling !== undefined) return UNIT_MS[per] / rolling
  return per === 'minute' || per === 'hour' ? UNIT_MS[per] : undefined
}

const instant = (atMs: number, stepMs: number): string => `${new Date(Math.floor(atMs / stepMs) * stepMs).toISOString().slice(0, 19)}Z`

const formatters = new Map<string, Intl.DateTimeFormat>()

function formatterOf(timeZone: string): Intl.DateTimeFormat {
  const known = formatters.get(timeZone)
  if (known !== undefined) return known
  // This locale writes dates as 2026-11-20.
  const made = new Intl.DateTimeFormat('en-CA-u-ca-iso8601-nu-latn', { timeZone, year: 'numeric', month: '2-digit', day: '2-digit' })
  formatters.set(timeZone, made)
  return made
}

const localDate = (timeZone: string, atMs: number): string => formatterOf(timeZone).format(atMs)
