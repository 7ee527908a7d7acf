// The bank run between processes: four of them withdraw from one balance, and some are killed. What was paid out and
// what the books say is the same; a control that writes without saying what it had read loses money.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { open } from '../budget/bench.ts'
import { fileStore } from '../../src/stores/file.ts'
import { temporaryDirectory } from '../stores/journal.ts'

const START = 1_000
const EACH = 25

async function withdrawals(mode: 'careful' | 'careless', killAfter?: number) {
  const directory = temporaryDirectory()
  const store = fileStore(directory, { durability: 'os' })
  const { kernel } = await open({ store, budgets: { bank: { calls: 1 } } })
  const board = kernel.blackboard(kernel.scope({ agent: 'bank', task: 'books', budget: 'bank' }))
  await board.commit(await board.propose({ set: { balance: START } }))
  const children = ['w0', 'w1', 'w2', 'w3'].map((name) => {
    const args = [join(import.meta.dirname, 'writer.ts'), directory, name, String(EACH), mode]
    return { name, child: spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }) }
  })
  await Promise.all(children.map(({ child }) => once(child.stdout, 'data')))
  const acknowledged = await Promise.all(
    children.map(async ({ name, child }) => {
      let said = 0
      child.stdout.on('data', (data: Buffer) => {
        said += data.toString().split('\n').length - 1
        if (name === 'w0' && killAfter !== undefined && said >= killAfter) child.kill('SIGKILL')
      })
      child.stdin.write('go\n')
      await once(child, 'close')
      return said
    }),
  )
  const entries = await board.list()
  const valueOf = (key: string): number => Number(entries.find((entry) => entry.key === key)?.value ?? 0)
  return { acknowledged, balance: valueOf('balance'), books: ['w0', 'w1', 'w2', 'w3'].map((name) => valueOf(`withdrawn/${name}`)) }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

test('four processes that withdraw at once take exactly what the books say', async () => {
  const { acknowledged, balance, books } = await withdrawals('careful')
  expect(acknowledged).toEqual([EACH, EACH, EACH, EACH])
  expect(books).toEqual(acknowledged)
  expect(balance).toBe(START - 4 * EACH)
})

test('one that is killed leaves the balance and its own books in agreement', async () => {
  const { acknowledged, balance, books } = await withdrawals('careful', 5)
  expect(acknowledged.slice(1)).toEqual([EACH, EACH, EACH])
  // The last one may have been made and never been reported.
  expect([acknowledged[0], acknowledged[0]! + 1]).toContain(books[0])
  expect(balance).toBe(START - sum(books))
})

test('control: processes that write over what they have read lose withdrawals', async () => {
  const { acknowledged, balance } = await withdrawals('careless')
  expect(START - balance).toBeLessThan(sum(acknowledged))
})
