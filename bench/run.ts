// `npm run bench [-- --json FILE] [--ms N]`: each row beside its yardstick, measured in the same run. Read the
// ratios, not the figures: machines differ, and shared ones change from minute to minute.

import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import { adapterRows } from './adapters.ts'
import { auditRows } from './audit.ts'
import { boardRows } from './board.ts'
import { kernelRows } from './kernel.ts'
import { storeRows } from './store.ts'

const { values } = parseArgs({ options: { json: { type: 'string' }, ms: { type: 'string', default: '1500' } } })
const ms = Number(values.ms)
const rows = [
  ...(await kernelRows(ms)),
  ...(await auditRows(ms)),
  ...(await boardRows(ms)),
  ...(await adapterRows(ms)),
  ...(await storeRows(ms)),
]

console.log(`Node ${process.version}, ${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown'}, ${process.platform} ${release()}\n`)
for (const { what, figure, yardstick, ratio, target, met } of rows) {
  console.log(`${met ? 'met   ' : 'MISSED'}  ${ratio.toFixed(2).padStart(7)} x  ${what}`)
  console.log(`                     ${figure} beside ${yardstick}; target ${target}`)
}
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ node: process.version, cores: cpus().length, rows }, null, 2)}\n`)
