// `holdfast audit tail`: what happened last, over all processes.

import { InvalidArgumentError, type Command } from 'commander'
import type { AuditRecord } from '../audit/record.ts'
import type { Amounts } from '../lib/amounts.ts'
import type { Json } from '../lib/canonical-json.ts'
import { chainNamed, chainsOf, newestRecords, type ChainLine } from './chain-files.ts'
import { assertDataDirectory } from './open-store.ts'
import { reports, type Report } from './output.ts'
import { table, type Cell } from './table.ts'
import { namedAmount, plural, shortId, timeOf, type Format } from './text.ts'

interface TailOptions {
  readonly lines: number
  readonly chain?: string
  readonly heads?: boolean
}

/**
 * One element of the array that `holdfast audit tail --json` prints: the record as it lies in the chain file
 * (`chain`, `seq`, `t` in Unix ms, `kind`, the fields of that kind, `prev`, `v`, `h`), or a line that is none.
 * Amounts are integers: `usd` in nano-USD.
 */
export type TailJson = (AuditRecord & { readonly h: string }) | { readonly chain: string; readonly fault: string; readonly line: string }

const MAX_LINES = 10_000

/** Adds the command to `holdfast audit`. */
export function addAuditTail(parent: Command): void {
  const command = parent
    .command('tail')
    .description('show the newest records of all chains, in order of time')
    .option('-n, --lines <count>', 'how many', parseCount, 20)
    .option('--chain <id>', 'only this chain; the first characters of its id are enough')
    .option('--heads', 'also the notes of where the store stood, which every process makes while it holds anything')
  command.addHelpText(
    'after',
    `
It shows what the files say. Whether they were changed: holdfast audit verify
With --json: an array of the records as they lie in the files.

Examples:
  $ holdfast audit tail
  $ holdfast audit tail -n 100 --chain hV3kQx2a`,
  )
  reports(command, ({ data }) => auditTail(data, command.opts<TailOptions>()))
}

function parseCount(value: string): number {
  const count = /^\d{1,6}$/.test(value) ? Number(value) : 0
  if (count < 1 || count > MAX_LINES) throw new InvalidArgumentError(`Give a number from 1 to ${MAX_LINES}.`)
  return count
}

async function auditTail(data: string, { lines: count, chain, heads = false }: TailOptions): Promise<Report> {
  assertDataDirectory(data)
  const all = chainsOf(data)
  const chains = chain === undefined ? all : [chainNamed(all, chain)]
  const lines = newestRecords(data, chains, count, ({ kind }) => heads || kind !== 'head')
  const bad = lines.filter((line) => 'fault' in line).length
  return {
    json: lines.map((line): TailJson => ('fault' in line ? line : { ...line.record, h: line.hash })),
    text: (style) => (lines.length === 0 ? 'No audit records yet.\n' : table([{}, {}, { align: 'right' }, {}, {}], lines.map(row), style)),
    fault:
      bad === 0
        ? undefined
        : { code: 'ERR_DAMAGE', message: `${plural(bad, 'line')} of these are not records that hold. See: holdfast audit verify` },
  }
}

function row(line: ChainLine): readonly Cell[] {
  if ('fault' in line) return ['', ['dim', shortId(line.chain)], '', ['red', 'BAD'], ['red', line.fault]]
  const { record } = line
  const { format, text } = describe(record)
  const kind: Cell = format === undefined ? record.kind : [format, record.kind]
  return [timeOf(record.t), ['dim', shortId(record.chain)], ['dim', `#${record.seq}`], kind, text]
}

/** A record in words. Fields are read with care: a record of a later version may lack them. */
function describe(record: AuditRecord): { readonly text: string; readonly format?: Format } {
  const field = (name: string): string => wordOf(record[name])
  const who = `${field('agent')} / ${field('task')}`
  switch (record.kind) {
    case 'open':
      return { text: `pid ${field('pid')} on ${field('host')}, holdfast ${field('version')}, node ${field('node')}, ${field('mode')}` }
    case 'lease':
      return { format: 'dim', text: `a chunk of ${field('budget')}: ${amountsOf(record['amounts'])}` }
    case 'intent':
      return { text: `${who}: ${field('resource')} on ${field('budget')}, at most ${amountsOf(record['amounts'])}` }
    case 'outcome':
      return outcomeOf(record)
    case 'refused':
      return { format: 'red', text: `${who}: ${field('resource')}: ${field('code')}: ${field('reason')}` }
    case 'approve': {
      const until = timeOf(Number(record['expiresAtMs']))
      return { format: 'green', text: `${field('by')} lets ${field('agent')} use ${field('tool')} once, until ${until}` }
    }
    case 'event':
      return { format: 'yellow', text: `${field('type')}: ${restOf(record, ['type'])}` }
    case 'head':
      return { format: 'dim', text: `saw the store at ${restOf((record['store'] ?? {}) as Record<string, Json>, ['hash'])}` }
    case 'close': {
      const unsent = Number(record['unsent'])
      return { text: unsent === 0 ? 'ended in order' : `ended with ${plural(unsent, 'outcome')} not yet in the store` }
    }
    default:
      return { text: restOf(record, []) }
  }
}

function outcomeOf(record: AuditRecord): { readonly text: string; readonly format?: Format } {
  const reason = record['reason'] === undefined ? '' : ` (${wordOf(record['reason'])})`
  const about = `on ${wordOf(record['budget'])}${reason}`
  switch (record['outcome']) {
    case 'charged':
      return { format: 'yellow', text: `charged at worst, ${amountsOf(record['used'])} ${about}` }
    case 'released':
      return { text: `released, nothing used ${about}` }
    default:
      return { text: `${wordOf(record['outcome'])} ${amountsOf(record['used'])} ${about}` }
  }
}

function amountsOf(amounts: Json | undefined): string {
  const parts = Object.entries((amounts ?? {}) as Amounts).map(([dimension, amount]) => namedAmount(dimension, amount))
  // Dollars first: `$0.03, tokens 3,000`.
  return parts.length === 0 ? 'nothing' : parts.sort((a, b) => Number(b.startsWith('$')) - Number(a.startsWith('$'))).join(', ')
}

const ENVELOPE = ['v', 'chain', 'seq', 'prev', 't', 'kind', 'store']

function restOf(fields: Readonly<Record<string, Json>>, known: readonly string[]): string {
  return Object.entries(fields)
    .filter(([name]) => !ENVELOPE.includes(name) && !known.includes(name))
    .map(([name, value]) => `${name} ${wordOf(value)}`)
    .join(', ')
}

function wordOf(value: Json | undefined): string {
  if (value === undefined) return '?'
  return typeof value === 'string' ? value : JSON.stringify(value)
}
