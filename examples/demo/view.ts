// What the demo shows: lines as they happen, and on a terminal a bar of the budget below them.

import { stdout } from 'node:process'
import { styleText } from 'node:util'
import { formatUsd, type BudgetLine } from 'holdfast'

const COLOURS = { researcher: 'cyan', writer: 'magenta', doomed: 'red', successor: 'green', demo: 'bold' } as const

/** Of the bar, in characters. */
const WIDTH = 40

/** Who speaks. */
export type Speaker = keyof typeof COLOURS

/** The live view. */
export interface View {
  say(who: Speaker, text: string): void
  /** Redraws the bar; without a terminal nothing is drawn. */
  bar(line: BudgetLine | undefined): void
  end(): void
}

/** Makes the view for this output. */
export function createView(): View {
  const startedAt = Date.now()
  const live = stdout.isTTY
  let status = ''
  const clear = (): void => void (live && status !== '' && stdout.write('\r\x1b[2K'))
  return {
    say(who, text) {
      clear()
      const at = ((Date.now() - startedAt) / 1_000).toFixed(1).padStart(5)
      stdout.write(`${colour('dim', `${at}s`)}  ${colour(COLOURS[who], who.padEnd(10))}  ${text}\n`)
      if (live) stdout.write(status)
    },
    bar(line) {
      if (!live || line === undefined) return
      clear()
      const part = (amount: number, sign: string): string => sign.repeat(Math.floor((WIDTH * amount) / line.limit))
      const [spent, out, suspense] = [part(line.spent, '█'), part(line.out, '▒'), part(line.suspense, '░')]
      const rest = ' '.repeat(WIDTH - spent.length - out.length - suspense.length)
      status = `       ${line.budget} [${colour('green', spent)}${colour('yellow', out)}${colour('red', suspense)}${rest}] ${formatUsd(line.spent)} of ${formatUsd(line.limit)}`
      stdout.write(status)
    },
    end() {
      clear()
      status = ''
    },
  }
}

function colour(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: stdout })
}

/** Prints rows under their headings, numbers to the right. */
export function printTable(headings: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = headings.map((heading, column) => Math.max(heading.length, ...rows.map((row) => row[column]!.length)))
  const write = (row: readonly string[]): string =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join('  ')
  console.log(colour('bold', write(headings)))
  for (const row of rows) console.log(write(row))
}
