// `npm run bench [-- --json FILE] [--ms N] [--group kernel,store]`: each row beside its yardstick, measured in the same
// run. Read the ratios, not the figures: machines differ, and shared ones change from minute to minute.
//
// `npm run bench -- --group ledger [--full] [--stores redis,postgres]` measures the ledger on every store, which takes
// minutes: without `--full` about three, with it about half an hour. It is not among the groups that run by default.

import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import { adapterRows } from './adapters.ts'
import { auditRows } from './audit.ts'
import { boardRows } from './board.ts'
import { kernelRows } from './kernel.ts'
import { ledgerReport } from './ledger.ts'
import type { Row } from './measure.ts'
import { storeRows } from './store.ts'
import { streamRows } from './streams.ts'

const options = {
  json: { type: 'string' },
  ms: { type: 'string', default: '1500' },
  group: { type: 'string', default: 'kernel,audit,board,adapters,store,streams' },
  full: { type: 'boolean', default: false },
  stores: { type: 'string' },
} as const
const GROUPS: Readonly<Record<string, (ms: number) => Promise<readonly Row[]>>> = {
  kernel: kernelRows,
  audit: auditRows,
  board: boardRows,
  adapters: adapterRows,
  store: storeRows,
  streams: streamRows,
  ledger,
}

const { values } = parseArgs({ options })
const ms = Number(values.ms)
if (!(ms > 0)) throw new TypeError(`Expected --ms to be above 0, got ${values.ms}.`)
const groups = values.group.split(',')
const unknown = groups.filter((group) => !Object.hasOwn(GROUPS, group))
if (unknown.length > 0) throw new TypeError(`There is no group ${unknown.join(', ')}; there are ${Object.keys(GROUPS).join(', ')}.`)
const data: Record<string, unknown> = {}
const texts: string[] = []
const rows: Row[] = []
for (const group of groups) rows.push(...(await GROUPS[group]!(ms)))

console.log(`Node ${process.version}, ${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown'}, ${process.platform} ${release()}\n`)
for (const text of texts) console.log(text)
for (const { what, figure, yardstick, ratio, target, met } of rows) {
  console.log(`${met ? 'met   ' : 'MISSED'}  ${ratio.toFixed(2).padStart(7)} x  ${what}`)
  console.log(`                     ${figure} beside ${yardstick}; target ${target}`)
}
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ node: process.version, cores: cpus().length, rows, ...data }, null, 2)}\n`)

async function ledger(): Promise<readonly Row[]> {
  const stores = values.stores === undefined ? {} : { stores: values.stores.split(',') }
  const report = await ledgerReport({ ms, full: values.full, ...stores })
  texts.push(report.text)
  data['ledger'] = report.data
  return report.rows
}
