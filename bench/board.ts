// A change of the blackboard, with its gates, its intent and its outcome in the trail, beside a raw commit of the
// same value to the same kind of store.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileStore, memoryStore, openKernel, type Store } from '../src/index.ts'
import { groupCommits } from '../src/stores/group.ts'
import { median, rate, type Row } from './measure.ts'

const VALUE = 'v'.repeat(200)
const ROUNDS = 3
const AGENTS = 16

/** Rows of the blackboard: one agent in memory, sixteen on a file store. */
export async function boardRows(ms: number): Promise<readonly Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  try {
    return [
      await row('blackboard transaction, 1 agent, memory store', ms, 1, () => memoryStore()),
      await row(`blackboard transaction, ${AGENTS} agents, file store`, ms, AGENTS, (name) => fileStore(join(folder, name))),
    ]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function row(what: string, ms: number, agents: number, storeOf: (name: string) => Store): Promise<Row> {
  const ratios: number[] = []
  const [raw, board]: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round++) {
    raw.push(await rawCommits(storeOf(`raw-${round}`), ms, agents))
    board.push(await transactions(storeOf(`board-${round}`), ms, agents))
    ratios.push(board[round]! / raw[round]!)
  }
  const perSecond = (values: readonly number[]): string => `${Math.round(median(values)).toLocaleString('en-US')}/s`
  // No target is set: it is two commits, the second of which ends the hold, and a read before the first.
  return {
    what,
    figure: perSecond(board),
    yardstick: `${perSecond(raw)} raw commits`,
    ratio: median(ratios),
    target: 'none set',
    met: true,
  }
}

async function rawCommits(store: Store, ms: number, callers: number): Promise<number> {
  const committer = groupCommits(store)
  const perSecond = await rate(ms, callers, (caller) => committer.commit({ set: [{ key: `bb/bench/k${caller}`, value: VALUE }] }))
  await store.close()
  return perSecond
}

async function transactions(store: Store, ms: number, agents: number): Promise<number> {
  const kernel = await openKernel({ store, budgets: { bench: { calls: 1 } } })
  const boards = Array.from({ length: agents }, (_, agent) =>
    kernel.blackboard(kernel.scope({ agent: `agent-${agent}`, task: 'bench', budget: 'bench' })),
  )
  const perSecond = await rate(ms, agents, (agent) => boards[agent]!.transact(async (tx) => tx.write(`k${agent}`, VALUE)))
  await kernel.close()
  await store.close()
  return perSecond
}
