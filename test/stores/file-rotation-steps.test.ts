// Rotation, one change of a file at a time: a process is killed, torn in the middle of a write, stopped while others
// rotate three times, or out of disk, at every single change that a commit and a compaction make; a peer that has
// slept since the first segment, the others and whoever opens the store then must find every acknowledged commit,
// once. The same rounds on sources that are wrong on purpose show that they would notice.

import { describe, expect, test } from 'vitest'
import { times } from '../../src/testing/store-bench.ts'
import type { Act } from './file-rotator.ts'
import { playRound, SOURCE, sourcesWith, type Mistake, type Round } from './file-rotation.ts'

/** Plays rounds two at a time, one for each of the changes that match. */
async function playAll(
  act: Act | 'full',
  options: { readonly source?: string; readonly match?: RegExp; readonly first?: number; readonly lifeMs?: number } = {},
): Promise<readonly (Round & { change: string })[]> {
  const { source = SOURCE, match = /./, first = Infinity, lifeMs } = options
  const { changes } = await playRound({ source: SOURCE })
  const queue = changes
    .map((change, index) => ({ change: `${index + 1} ${change}`, number: index + 1 }))
    .filter(({ change, number }) => number <= first && match.test(change))
  const rounds: (Round & { change: string })[] = []
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const round = await playRound({
        source,
        ...(lifeMs === undefined ? {} : { lifeMs }),
        ...(act === 'full' ? { fullFrom: next.number } : { at: { change: next.number, act } }),
      })
      rounds.push({ ...round, change: next.change })
    }
  }
  await Promise.all(times(2, work))
  return rounds
}

const faultsOf = (rounds: readonly (Round & { change: string })[]): readonly string[] =>
  rounds.flatMap(({ change, faults }) => faults.map((fault) => `${change}: ${fault}`))

const WRITES = /writeSync/

describe('a process that compacts', () => {
  test('makes the changes that the protocol says, in its order', async () => {
    const { changes, faults, ended, files } = await playRound({ source: SOURCE })
    expect({ faults, ended }).toEqual({ faults: [], ended: true })
    const names = changes.map((change) =>
      change
        .replace(/-[\w-]{22}$/, '')
        .replace('Sync', '')
        .trim(),
    )
    // A commit; K1: the turn, the seal. C0 to C3. K2: a line to stand on. K3: the snapshot. T2: the marker. T3: the
    // removals, ascending. Then three commits.
    expect(names.filter((name) => !name.startsWith('close')).join(', ')).toBe(
      [
        'write, fdatasync',
        'mkdir turn.lock, write',
        'fdatasync, open g-000000000005, open store, fsync',
        'write, fdatasync',
        'open tmp, write, write, write, fsync, rename tmp, open store, fsync',
        'open trimmed, open store, fsync',
        'unlink g-000000000001, unlink g-000000000002, unlink g-000000000003, rmdir turn.lock',
        times(3, () => 'write, fdatasync').join(', '),
      ].join(', '),
    )
    expect(files).toEqual(['g-000000000006', 'g-000000000007', 's-000000000006', 's-000000000007', 'store.json', 'trimmed'])
  })

  test('may be killed after every single change: the store opens, goes on, and has every acknowledged commit once', async () => {
    const rounds = await playAll('killed')
    expect(faultsOf(rounds)).toEqual([])
    expect(rounds.length).toBeGreaterThan(35)
    expect(rounds.filter(({ ended }) => ended)).toEqual([])
  })

  test('may be killed half-way through every write, to the journal or to a snapshot', async () => {
    const rounds = await playAll('torn', { match: WRITES })
    expect(faultsOf(rounds)).toEqual([])
    expect(rounds.length).toBeGreaterThanOrEqual(9)
  })

  test('may be stopped after every change until others have rotated three times and removed what it has open', async () => {
    const rounds = await playAll('stopped')
    expect(faultsOf(rounds)).toEqual([])
    expect(rounds.every(({ ended }) => ended)).toBe(true)
    expect(rounds.filter(({ stopped }) => !stopped).length).toBeLessThan(5)
  })

  test('may be stopped between its decision and every change that follows from it, until others have rotated three times', async () => {
    const rounds = await playAll('stopped before')
    expect(faultsOf(rounds)).toEqual([])
    expect(rounds.every(({ ended }) => ended)).toBe(true)
    // Whether a sync runs in place decides on the order of the last few, and a sleeper may have fewer to make.
    expect(rounds.filter(({ stopped }) => !stopped).length).toBeLessThan(5)
  })

  test('may run out of disk from every change on: it goes on as soon as there is room, and nothing is half done', async () => {
    const compaction = (await playRound({ source: SOURCE })).changes.findIndex((change) => change.startsWith('rmdirSync'))
    const rounds = await playAll('full', { first: compaction })
    expect(faultsOf(rounds)).toEqual([])
    expect(rounds.every(({ ended }) => ended)).toBe(true)
    expect(rounds.filter(({ failures }) => failures.length > 0).length).toBeGreaterThan(10)
  })
})

describe('control: the rounds notice a store', () => {
  const control = async (act: Act, mistakes: readonly Mistake[], match?: RegExp): Promise<readonly string[]> =>
    faultsOf(await playAll(act, { source: sourcesWith(mistakes), lifeMs: 5_000, ...(match === undefined ? {} : { match }) }))

  test('whose processes ignore a seal, and go on where nobody reads', async () => {
    const wrong = { file: 'journal/fold.ts', right: '      isSealed = true\n', wrong: '' }
    expect(await control('stopped', [wrong], /^[12] /)).not.toEqual([])
  })

  test('that does not look, once the next segment is open, whether the one before still has its name', async () => {
    const first = { file: 'journal/open.ts', right: 'if (!hasItsName(sealed)) return openLater(home, sealed)', wrong: '' }
    const second = { file: 'journal/open.ts', right: 'if (hasItsName(sealed)) {', wrong: 'if (hasItsName(sealed) || true) {' }
    const faults = await control('stopped', [first, second], /openSync|fdatasync|writeSync/)
    expect(faults.filter((fault) => fault.includes('are there')).length).toBeGreaterThan(0)
  })

  test('that looks before it opens the next segment, and not after', async () => {
    const second = { file: 'journal/open.ts', right: 'if (hasItsName(sealed)) {', wrong: 'if (hasItsName(sealed) || true) {' }
    // It goes on in a file that it has made anew, and that even its own trimming removes.
    expect(await control('stopped before', [second], /openSync g-/)).toEqual([expect.stringMatching(/was removed while in use/)])
  })

  test('that removes segments in descending order', async () => {
    const wrong = {
      file: 'journal/compact.ts',
      right: 'for (const segment of segmentsIn(folder)) if',
      wrong: 'for (const segment of segmentsIn(folder).toReversed()) if',
    }
    const faults = await control('killed', [wrong], /unlinkSync/)
    expect(faults.filter((fault) => fault.includes('are there')).length).toBeGreaterThan(0)
  })

  test('that acknowledges a line because it was written', async () => {
    const wrong = {
      file: 'file.ts',
      right: 'return writer.accepted\n',
      wrong: "return writer.accepted ?? batches.map(() => ({ outcome: 'ok' as const, version: 1, values: [] }))\n",
    }
    expect(await control('stopped before', [wrong], WRITES)).not.toEqual([])
  })
})
