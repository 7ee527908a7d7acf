// A process of record.ts: one client per script that runs at the same time, each with a connection of its own.
//
//   node worker.ts <{ address, index, mistake } as JSON>

import { breakStore, type Break } from './broken-clients.ts'
import { runClient, type Script } from './client.ts'
import type { WorkerMessage } from './record.ts'
import { openClient, type Address, type SiteClient } from './sites.ts'

const { address, index, mistake } = JSON.parse(process.argv[2]!) as { address: Address; index: number; mistake?: Break }
const clients = new Map<string, Promise<SiteClient>>()

/** The client of this name: a history has the same ones as the history before. */
async function clientOf(name: string): Promise<SiteClient> {
  const known = clients.get(name) ?? openClient(address, index + clients.size)
  clients.set(name, known)
  return known
}

async function run(number: number, script: Script): Promise<void> {
  const { store, wire } = await clientOf(script.name)
  const operations = await runClient(mistake === undefined ? store : breakStore(store, mistake), wire, script)
  process.send!({ do: 'done', number, operations } satisfies WorkerMessage)
}

async function end(): Promise<void> {
  for (const client of clients.values()) await (await client).close()
  process.exit(0)
}

process.on('message', (message: WorkerMessage) => {
  if (message.do === 'run') void run(message.number, message.script)
  if (message.do === 'end') void end()
})
// The channel to the parent ends with the parent, however it dies.
process.on('disconnect', () => process.exit(2))
process.send!({ do: 'ready' } satisfies WorkerMessage)
