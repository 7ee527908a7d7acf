// Holds per second and their latencies, by hand, strict and leased, of one process and several, one caller and many:
// in turn, round after round, so that all three see the same machine.

import { fork, type ChildProcess } from 'node:child_process'
import type { Row } from '../measure.ts'
import type { Address, Kind } from './address.ts'
import { openPlace } from './places.ts'
import { HOWS, middle, together, type Figures, type How, type Order, type Sample } from './samples.ts'

/** One line of the table. */
export interface Cell {
  readonly kind: Kind
  readonly processes: number
  /** Of each process. */
  readonly callers: number
  readonly figures: Readonly<Record<How, Figures>>
}

/** What is measured. */
export interface HoldsOptions {
  readonly ms: number
  readonly rounds: number
  /** Processes, and callers of each. */
  readonly shapes: readonly (readonly [processes: number, callers: number])[]
}

/** Measures a kind of store in every shape; what is in memory belongs to one process. */
export async function measureHolds(kind: Kind, { ms, rounds, shapes }: HoldsOptions): Promise<readonly Cell[]> {
  const place = await openPlace(kind)
  const { stop, ...address } = place
  const cells: Cell[] = []
  const crew: ChildProcess[] = []
  try {
    for (const [processes, callers] of shapes.filter(([count]) => kind !== 'memory' || count === 1)) {
      while (crew.length < processes) crew.push(await start(address))
      const measured: Record<How, Figures[]> = { 'by hand': [], strict: [], leased: [] }
      for (let round = 0; round < rounds; round++)
        for (const how of HOWS) measured[how].push(await once(crew.slice(0, processes), { how, callers, ms }))
      const figures = Object.fromEntries(HOWS.map((how) => [how, middle(measured[how])])) as Record<How, Figures>
      cells.push({ kind, processes, callers, figures })
    }
    return cells
  } finally {
    for (const child of crew) child.kill('SIGKILL')
    await stop()
  }
}

async function start(address: Address): Promise<ChildProcess> {
  const child = fork(new URL('worker.ts', import.meta.url), [JSON.stringify(address)])
  await answerOf(child)
  return child
}

/** All of them do the same at the same time: nobody begins before everybody is ready, or closes before all are done. */
async function once(crew: readonly ChildProcess[], order: Order): Promise<Figures> {
  await all(crew, order)
  const samples = await all(crew, 'go')
  await all(crew, 'close')
  return together(samples as readonly Sample[])
}

const all = (crew: readonly ChildProcess[], what: Order | string): Promise<readonly unknown[]> =>
  Promise.all(
    crew.map((child) => {
      const answer = answerOf(child)
      child.send(what)
      return answer
    }),
  )

function answerOf(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`A process of the benchmark ended with ${code}.`))
    child.once('exit', ended)
    child.once('message', (message) => {
      child.off('exit', ended)
      resolve(message)
    })
  })
}

/** The rows that have a target. */
export function targetsOf(cells: readonly Cell[]): readonly Row[] {
  const shared = cells.filter(({ kind }) => kind !== 'memory')
  const onServers = shared.filter(
    ({ kind, processes, callers }) => ['redis', 'postgres'].includes(kind) && processes === 1 && callers === 64,
  )
  return [
    ...onServers.map((cell) => ratesOf(cell, 'strict', 'by hand', 0.7)),
    ...onServers.filter(({ kind }) => kind === 'postgres').map((cell) => ratesOf(cell, 'strict', 'by hand', 8)),
    ...shared.filter(({ processes, callers }) => processes === 1 && callers === 1).map(latencies),
    ...shared.filter(({ processes }) => processes === 8).map((cell) => ratesOf(cell, 'leased', 'strict', 5)),
  ]
}

const about = ({ kind, processes, callers }: Cell): string => `${kind}, ${processes} x ${callers} callers`

function ratesOf(cell: Cell, how: How, beside: How, least: number): Row {
  const [own, other] = [cell.figures[how].perSecond, cell.figures[beside].perSecond]
  return {
    what: `${how} holds, ${about(cell)}`,
    figure: `${rounded(own)}/s`,
    yardstick: `${rounded(other)}/s ${beside}`,
    ratio: own / other,
    target: `>= ${least} x`,
    met: own / other >= least,
  }
}

function latencies(cell: Cell): Row {
  const { strict, leased } = cell.figures
  return {
    what: `a leased hold, ${about(cell)}, p50`,
    figure: `${leased.p50.toFixed(1)} us`,
    yardstick: `${strict.p50.toFixed(1)} us strict`,
    ratio: leased.p50 / strict.p50,
    target: '<= 0.05 x',
    met: leased.p50 / strict.p50 <= 1 / 20,
  }
}

/** The table. Latencies are of a hold from its `begin` to the end of its `settle`. */
export function tableOf(cells: readonly Cell[]): string {
  const head = ['store', 'processes', 'callers each', ...HOWS.flatMap((how) => [`${how}/s`, 'p50 us', 'p99 us']), 'strict x', 'leased x']
  const rows = cells.map(({ kind, processes, callers, figures }) => {
    const each = HOWS.flatMap((how) => [figures[how].perSecond, figures[how].p50, figures[how].p99].map(rounded))
    const ratios = (['strict', 'leased'] as const).map((how) => (figures[how].perSecond / figures['by hand'].perSecond).toFixed(2))
    return [kind, String(processes), String(callers), ...each, ...ratios]
  })
  return markdownOf(head, rows)
}

/** A table that reads well in a terminal and in a document. */
export function markdownOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, index) => Math.max(title.length, ...rows.map((row) => row[index]!.length)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, index) => (index === 0 ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!))).join(' | ')} |`
  const rule = `|${widths.map((width, index) => (index === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

const rounded = (value: number): string => Math.round(value).toLocaleString('en-US')
