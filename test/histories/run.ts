// `node test/histories/run.ts --store redis --histories 1000`: records histories of a store and judges them. Ends with
// 1 on an anomaly, and leaves the history for `--replay`. With `--break`, the clients are wrong on purpose and it ends
// with 1 unless that is found.

import { mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { BREAKS, type Break } from './broken-clients.ts'
import { loadHistory, saveHistory } from './history.ts'
import { judge } from './judge.ts'
import { available, STORES, type StoreName } from './sites.ts'
import { lineOf, takeHistories } from './take.ts'

interface Arguments {
  readonly store: StoreName
  readonly histories: string
  readonly seed?: string
  readonly clients: string
  readonly calls: string
  readonly processes: string
  readonly crashes: string
  readonly break?: Break
  readonly out: string
  readonly replay?: string
}

const given = new Command('histories')
  .addOption(new Option('--store <kind>').choices(STORES).default('redis'))
  .option('--histories <count>', 'how many', '1000')
  .option('--seed <number>', 'of the first history; the next ones count on')
  .option('--clients <count>', 'that work at the same time', '5')
  .option('--calls <count>', 'of each client in a history', '16')
  .option('--processes <count>', 'that the clients are spread over; 0 is this one alone', '0')
  .option('--crashes <share>', 'of histories in which the server crashes and comes back, from 0 to 1', '0.02')
  .addOption(new Option('--break <mistake>', 'make all clients wrong, to see that it is found').choices(BREAKS))
  .option('--out <directory>', 'where a failing history is left', join(tmpdir(), 'holdfast-histories'))
  .option('--replay <file>', 'judge a history that was left, and record none')
  .parse()
  .opts<Arguments>()

if (given.replay === undefined) await record()
else {
  const history = loadHistory(given.replay)
  const anomalies = judge(history.operations)
  for (const { check, message } of anomalies) console.log(`${check}: ${message}`)
  console.log(`${given.replay}: ${history.operations.length} operations, ${anomalies.length} anomalies`)
  process.exitCode = anomalies.length === 0 ? 0 : 1
}

async function record(): Promise<void> {
  const { store, break: mistake, out } = given
  const seed = given.seed === undefined ? Date.now() % 1_000_000 : Number(given.seed)
  if (!available(store)) {
    process.exitCode = 1
    return
  }
  const taken = await takeHistories({
    store,
    histories: positive('histories', given.histories),
    seed,
    clients: positive('clients', given.clients),
    calls: positive('calls', given.calls),
    processes: Number(given.processes),
    crashed: mistake === undefined ? Number(given.crashes) : 0,
    ...(mistake === undefined ? {} : { mistake, stopAt: (anomalies) => anomalies.length > 0 }),
  })
  for (const { history, anomalies } of taken.failed) {
    mkdirSync(out, { recursive: true })
    const file = join(out, `${store}-${mistake === undefined ? '' : `${mistake}-`}${history.seed}.json`)
    saveHistory(file, history)
    console.log(`seed ${history.seed}, ${history.workload}, left in ${file}`)
    for (const { check, message } of anomalies) console.log(`  ${check}: ${message}`)
  }
  console.log(
    `${lineOf(taken)} (${taken.conflicts} conflicts, ${taken.refused} refused, ${taken.crashes} crashes, seed ${seed}${mistake === undefined ? '' : `, clients broken: ${mistake}`})`,
  )
  process.exitCode = taken.failed.length > 0 === (mistake !== undefined) ? 0 : 1
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!(Number.isInteger(value) && value > 0)) throw new RangeError(`Expected --${name} to be a whole number above 0, got ${text}.`)
  return value
}
