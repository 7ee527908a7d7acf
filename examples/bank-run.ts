// Two agents read a balance of $10,000 at the same moment; one withdraws $7,000, the other $6,000. Without a
// kernel the second write hides the first one, and $3,000 are gone. With one, the second agent is told that
// the balance has changed. Run it: node examples/bank-run.ts

import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileStore, findRefusal, openKernel } from '../src/index.ts'

const AGENTS = { 'agent-a': 7_000, 'agent-b': 6_000 } as const
const [mode, agent, folder = ''] = process.argv.slice(2)
const file = join(folder, 'balance.json')

if (mode === 'without') await withdrawWithout(AGENTS[agent as keyof typeof AGENTS])
else if (mode === 'with') await withdrawWith(agent!, AGENTS[agent as keyof typeof AGENTS])
else {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bank-run-'))
  await main(directory)
  rmSync(directory, { recursive: true })
}

/** What most frameworks leave an agent with: read, think, write. */
async function withdrawWithout(amount: number): Promise<void> {
  const balance = Number(readFileSync(file, 'utf8'))
  await everybodyHasRead()
  writeFileSync(file, String(balance - amount))
  process.send?.(`withdraws $${amount}, and writes ${balance - amount}`)
  process.disconnect()
}

/** The same with a kernel: the write says which version it was decided on. */
async function withdrawWith(name: string, amount: number): Promise<void> {
  await using kernel = await openKernel({ store: fileStore(folder) })
  const board = kernel.blackboard(kernel.scope({ agent: name, task: 'withdraw', budget: 'bank' }), 'accounts')
  const entry = await board.read('balance')
  const balance = 'value' in entry ? Number(entry.value) : 0
  await everybodyHasRead()
  try {
    await board.commit(await board.propose({ set: { balance: balance - amount }, reads: [entry] }))
    process.send?.(`withdraws $${amount}, and writes ${balance - amount}`)
  } catch (error) {
    process.send?.(`is refused: ${findRefusal(error)?.message ?? String(error)}`)
  }
  process.disconnect()
}

/** Waits until the parent says that both have read the balance. */
async function everybodyHasRead(): Promise<void> {
  process.send?.('has read')
  await new Promise((resolve) => process.once('message', resolve))
}

async function main(directory: string): Promise<void> {
  console.log('Without a kernel:')
  writeFileSync(join(directory, 'balance.json'), '10000')
  const without = { paid: await bothWithdraw('without', directory), left: Number(readFileSync(join(directory, 'balance.json'), 'utf8')) }

  console.log('\nWith a kernel:')
  await using kernel = await openKernel({ store: fileStore(directory), budgets: { bank: { calls: 10 } } })
  const board = kernel.blackboard(kernel.scope({ agent: 'bank', task: 'open', budget: 'bank' }), 'accounts')
  await board.commit(await board.propose({ set: { balance: 10_000 } }))
  const paid = await bothWithdraw('with', directory)
  const entry = await board.read('balance')
  const left = 'value' in entry ? Number(entry.value) : 0

  console.log(
    `\nWithout: $${without.paid} were paid out, the books say $${10_000 - without.left}: $${without.paid - (10_000 - without.left)} are gone.`,
  )
  console.log(`With:    $${paid} were paid out, the books say $${10_000 - left}; the other agent can decide anew.`)
  process.exitCode = without.paid > 10_000 - without.left && paid > 0 && paid < 13_000 && paid === 10_000 - left ? 0 : 1
}

/** Two processes, which both read before either writes. Returns what they say that they withdrew, in dollars. */
async function bothWithdraw(how: string, directory: string): Promise<number> {
  const children = Object.keys(AGENTS).map((name) => ({ name, child: fork(import.meta.filename, [how, name, directory]) }))
  await Promise.all(children.map(({ child }) => new Promise((resolve) => child.once('message', resolve))))
  const withdrawn = await Promise.all(
    children.map(async ({ name, child }) => {
      const answer = new Promise((resolve) => child.once('message', resolve))
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.send('go')
      const said = String(await answer)
      console.log(`  ${name} ${said}`)
      await ended
      return Number(/^withdraws \$(\d+)/.exec(said)?.[1] ?? 0)
    }),
  )
  return withdrawn.reduce((sum, amount) => sum + amount, 0)
}
