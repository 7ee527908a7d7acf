// One process of a graph that several work on: run by `langgraph-process.test.ts` with the folder and what to do.
// The checkpointer is LangGraph's own in memory, written to a file after each change.

import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { tool } from '@langchain/core/tools'
import { Command, MemorySaver, interrupt } from '@langchain/langgraph'
import { z } from 'zod'
import { guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { fileStore } from '../../src/stores/file.ts'
import { calling, openGraphKernel, toolAnswers, toolGraph } from './langgraph-bench.ts'

const [folder, what] = process.argv.slice(2) as [string, 'start' | 'hang' | 'resume' | 'again']

class FileSaver extends MemorySaver {
  readonly #path = join(folder, 'checkpoints')

  constructor() {
    super()
    if (existsSync(this.#path)) Object.assign(this, deserialize(readFileSync(this.#path)))
  }

  #write(): void {
    writeFileSync(this.#path, serialize({ storage: this.storage, writes: this.writes }))
  }

  override async put(...args: Parameters<MemorySaver['put']>): ReturnType<MemorySaver['put']> {
    const config = await super.put(...args)
    this.#write()
    return config
  }

  override async putWrites(...args: Parameters<MemorySaver['putWrites']>): Promise<void> {
    await super.putWrites(...args)
    this.#write()
  }
}

const send = tool(
  async ({ to }) => {
    appendFileSync(join(folder, 'sent'), `${to}\n`)
    process.send?.('sent')
    if (what === 'hang') await new Promise(() => setInterval(() => {}, 1_000))
    return `sent to ${to}`
  },
  { name: 'send', description: 'Sends.', schema: z.object({ to: z.string() }) },
)
const confirm = tool(async () => `confirmed: ${String(interrupt('all?'))}`, { name: 'confirm', description: 'Asks.', schema: z.object({}) })

const { kernel, scope } = await openGraphKernel({ store: fileStore(join(folder, 'store'), { durability: 'os' }) })
const graph = guardGraph(toolGraph(guardTools([send, confirm], scope, { amounts: { send: { sends: 1 } } }), new FileSaver()), scope)
const input = {
  start: { messages: [calling(['send', { to: 'ann' }], ['confirm', {}])] },
  hang: { messages: [calling(['send', { to: 'ann' }])] },
}
const given = what === 'resume' ? new Command({ resume: 'yes' }) : what === 'again' ? null : input[what]
const state = await graph.invoke(given as never, { configurable: { thread_id: 'thread' }, durability: 'sync' })
await kernel.close()
process.send?.({ answers: toolAnswers(state) })
process.disconnect?.()
