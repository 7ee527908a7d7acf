// `holdfast bb` and `holdfast handoff`, run as a program on data directories that kernels made.

import { afterAll, describe, expect, test } from 'vitest'
import type { BoardHistoryJson, BoardListJson } from '../../src/cli/bb.ts'
import type { HandoffListJson } from '../../src/cli/handoff-list.ts'
import { cli, cliJson, declared, kernelOn, removeData } from './cli-bench.ts'

afterAll(removeData)

async function boardWith(values: Readonly<Record<string, unknown>>, namespace = 'accounts'): Promise<string> {
  const data = await declared({ acme: { calls: 100, usd: 5 } })
  await using kernel = await kernelOn(data)
  const board = kernel.blackboard(kernel.scope({ agent: 'teller', task: 'books', budget: 'acme' }), namespace)
  await board.commit(await board.propose({ set: values as never }))
  return data
}

describe('bb', () => {
  test('lists what stands on the board and who wrote it, and no text of theirs reaches the terminal raw', async () => {
    const data = await boardWith({ 'account:balance': 10_000, note: '\u001b[31mred', long: 'x'.repeat(500) })
    const { code, stdout } = await cli(['bb', 'list', '--data', data])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^accounts +account:balance +10000 +\d+ +teller +books +\d{4}-\d\d-\d\d/m)
    expect(stdout).not.toContain('\u001b')
    expect(stdout.split('\n').every((line) => line.length < 200)).toBe(true)
    const { entries, more } = await cliJson<BoardListJson>(['bb', 'list', 'accounts', 'acc', '--data', data])
    expect({ keys: entries.map(({ key }) => key), more }).toEqual({ keys: ['account:balance'], more: false })
    expect((await cliJson<BoardListJson>(['bb', 'list', 'elsewhere', '--data', data])).entries).toEqual([])
  })

  test('gets a value with what a terminal would obey made visible', async () => {
    const data = await boardWith({ k: 'a\u009b31mred\u202e' })
    const { stdout } = await cli(['bb', 'get', 'k', 'accounts', '--data', data])
    expect(stdout).toBe('"a\\u{9b}31mred\\u{202e}"\n')
  })

  test('gets the value of a key as JSON, and its history with hashes', async () => {
    const data = await boardWith({ 'a/b': { list: [1, 2] } })
    expect(JSON.parse((await cli(['bb', 'get', 'a/b', 'accounts', '--data', data])).stdout)).toEqual({ list: [1, 2] })
    const { writes } = await cliJson<BoardHistoryJson>(['bb', 'history', 'a/b', 'accounts', '--data', data])
    expect(writes).toEqual([expect.objectContaining({ agent: 'teller', task: 'books', hash: expect.stringMatching(/^[\w-]{43}$/) })])
  })

  test.each([
    [['bb', 'get', 'nothing'], 1, 'There is no key `nothing` in the namespace `shared`'],
    [['bb', 'history', '../x'], 1, '`..` is reserved'],
    [['bb', 'get'], 2, "missing required argument 'key'"],
    [['bb'], 2, 'holdfast bb'],
  ])('%j says what is wrong', async (args, code, message) => {
    const data = await boardWith({ k: 1 })
    const run = await cli([...args, '--data', data])
    expect({ code: run.code, said: run.stderr.includes(message) }).toEqual({ code, said: true })
  })
})

test('handoff list shows who handed what to whom, and what became of it', async () => {
  const data = await declared({ acme: { usd: 5 } })
  expect((await cli(['handoff', 'list', '--data', data])).stdout).toContain('No handoffs.')
  {
    await using kernel = await kernelOn(data)
    const scope = kernel.scope({ agent: 'orchestrator', task: 'report', budget: 'acme' })
    const closed = await scope.handoff({ to: 'analyst', budget: { usd: 0.5 }, instruction: 'secret instruction' })
    await (await closed.scope.begin({ kind: 'tool', resource: 'x', worst: { usd: 200_000_000 } })).settle({ usd: 200_000_000 })
    await closed.close()
    await scope.handoff({ to: 'clerk', budget: { usd: 1 }, instruction: 'x' })
    const { stdout } = await cli(['handoff', 'list', '--data', data])
    expect(stdout).toMatch(/orchestrator +analyst +report +\$0\.50 +closed +\$0\.20/)
    expect(stdout).toMatch(/orchestrator +clerk +report +\$1\.00 +open/)
    expect(stdout).not.toContain('secret')
  }
  const { handoffs } = await cliJson<HandoffListJson>(['handoff', 'list', '--data', data])
  expect(handoffs.find(({ to }) => to === 'analyst')).toMatchObject({
    state: 'closed',
    limits: { usd: 500_000_000 },
    returned: { usd: 300_000_000 },
    spent: { usd: 200_000_000 },
  })
})
