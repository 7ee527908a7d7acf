// Words and widths for a terminal.

import { styleText } from 'node:util'
import { formatAmount } from '../lib/amounts.ts'

/** A style of `util.styleText`. */
export type Format = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

/** Puts a text into a style, or leaves it as it is where colours are not wanted. */
export type Style = (format: Format, text: string) => string

/** Makes the style function of one run. */
export function createStyle(color: boolean): Style {
  return color ? (format, text) => styleText(format, text, { validateStream: false }) : (_format, text) => text
}

/**
 * Whether to colour: only for a person at a terminal who did not ask for plain text.
 *
 * @param color - False when `--no-color` was given.
 * @see https://no-color.org
 */
export function wantsColor(color: boolean, isTty: boolean, environment: Readonly<Record<string, string | undefined>>): boolean {
  return color && isTty && (environment['NO_COLOR'] ?? '') === '' && environment['TERM'] !== 'dumb'
}

// Messages in a store come from models, tools and servers: an escape sequence in one of them must not reach
// the terminal, and neither may the marks that turn the direction of text around.
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

/** Writes control characters as `\u{1b}`, so that they are seen and do nothing. */
export function visible(text: string): string {
  return text.replaceAll(HIDDEN, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
}

const WIDE =
  /^(?![\uff61-\uffdc])[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60]/u
const GRAPHEMES = new Intl.Segmenter()

/** Columns that a text takes in a terminal: two for each Chinese, Japanese or Korean character and each emoji. */
export function widthOf(text: string): number {
  let width = 0
  for (const { segment } of GRAPHEMES.segment(text)) width += WIDE.test(segment) ? 2 : 1
  return width
}

/** `3 budgets`, `1 budget`, `2 processes`. */
export function plural(count: number, one: string, many: string = `${one}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`
}

const UNITS = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
] as const

/** A span of time in its largest whole unit: `3 s`, `12 min`, `2 h`, `5 d`. */
export function span(ms: number): string {
  const unit = UNITS.find(([length]) => ms >= length)
  return unit === undefined ? `${Math.max(0, Math.round(ms / 1_000))} s` : `${Math.floor(ms / unit[0])} ${unit[1]}`
}

const SPAN_UNITS: Readonly<Record<string, number>> = { s: 1_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** Reads `90s`, `30min`, `2h`, `1.5d` into ms; `undefined` when it is none of them. */
export function parseSpan(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d{1,9}(?:\.\d{1,3})?) ?(s|min|h|d)$/.exec(text) ?? []
  return number === undefined ? undefined : Math.round(Number(number) * SPAN_UNITS[unit]!)
}

/** `2026-11-20 14:03:22.123Z`: sorts, and means the same everywhere. */
export function timeOf(unixMs: number): string {
  const date = new Date(unixMs)
  return Number.isNaN(date.getTime()) ? `t=${unixMs}` : date.toISOString().replace('T', ' ')
}

/** An amount with what it counts, where the sign does not say so: `$0.03`, `tokens 3,000`. */
export function namedAmount(dimension: string, amount: number): string {
  const text = formatAmount(dimension, amount)
  return dimension === 'usd' ? text : `${dimension} ${text}`
}

/** The first characters of an id: enough to tell it from the others, and to give to `--chain`. */
export function shortId(id: string): string {
  return id.slice(0, 8)
}
