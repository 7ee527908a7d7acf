// What a crash strands, against the size of the chunk that the process had: one process for each size, killed when
// it has just taken a chunk of it, which is when most of it lies idle.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKernel } from '../../src/index.ts'
import { CHUNK_POLICY } from '../../src/budget/lending.ts'
import { sleep } from '../../src/lib/clock.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { ColdStart } from '../../test/budget/stranded.test.ts'
import type { Row } from '../measure.ts'
import { markdownOf } from './holds.ts'

/** What became of one process; everything in calls. */
interface Crash {
  /** The chunk that the policy gives after so many calls. */
  readonly chunk: number
  readonly calls: number
  /** What goes to suspense when nobody succeeds it. */
  readonly stranded: number
  /** What of that was not spent. */
  readonly waste: number
}

const WORST = 10
const LIMIT = 100_000_000
const ARRIVAL_MS = 200
/** More is taken when less than this part of a chunk is left. */
const LOW = 0.25

/** After how many calls in a row each size of chunk is asked for. */
function momentsOf(): readonly { readonly chunk: number; readonly calls: number }[] {
  const moments = [{ chunk: CHUNK_POLICY.firstChunk, calls: CHUNK_POLICY.busyCalls }]
  for (let last = moments[0]!, drawn = 1; last.chunk < CHUNK_POLICY.maxChunk; drawn = 0) {
    while (last.chunk - drawn >= LOW * last.chunk) drawn += 1
    last = { chunk: last.chunk * 2, calls: last.calls + drawn - (last === moments[0] ? 1 : 0) }
    moments.push(last)
  }
  return moments
}

/** The table, and the row with its target. */
export async function strandedTable(): Promise<{
  readonly text: string
  readonly rows: readonly Row[]
  readonly crashes: readonly Crash[]
}> {
  const crashes: Crash[] = []
  for (const moment of momentsOf()) crashes.push(await crash(moment))
  const worst = Math.max(...crashes.map(({ waste, chunk }) => waste / chunk))
  const text = markdownOf(
    ['chunk, calls', 'calls made', 'in suspense', 'of it wasted', 'part of a chunk'],
    crashes.map(({ chunk, calls, stranded, waste }) => [...[chunk, calls, stranded, waste].map(String), (waste / chunk).toFixed(2)]),
  )
  const row: Row = {
    what: 'waste after a crash without a successor, the worst of all sizes of chunk',
    figure: `${worst.toFixed(2)} chunks`,
    yardstick: 'one chunk',
    ratio: worst,
    target: '<= 1 x',
    met: worst <= 1,
  }
  return { text, rows: [row], crashes }
}

async function crash({ chunk, calls }: { readonly chunk: number; readonly calls: number }): Promise<Crash> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  const store = fileStore(join(directory, 'store'), { durability: 'os' })
  const open = () => openKernel({ store, data: join(directory, 'own'), onEvent: () => undefined })
  try {
    const first = await openKernel({
      store,
      data: join(directory, 'own'),
      budgets: { acme: { tokens: LIMIT }, 'acme/*': { tokens: LIMIT } },
    })
    await first.close()
    const data = join(directory, 'its')
    await killed({ directory: join(directory, 'store'), data, budget: 'acme/work', calls, open: 0, worst: WORST, used: WORST })
    // It looks as if it had been silent for long, to one who has not its chain.
    const renewed = await store.list('renewed/', { limit: 10 })
    await store.apply([{ delete: renewed.map(({ key }) => key) }])
    const stranger = await open()
    await stranger.sweep()
    const [line] = await stranger.budgets('acme')
    await stranger.close()
    const { suspense, spent } = line!
    return { chunk, calls, stranded: suspense / WORST, waste: (suspense + spent) / WORST - calls }
  } finally {
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function killed(options: ColdStart): Promise<void> {
  const child = fork(new URL('../../test/budget/cold-start.ts', import.meta.url), [JSON.stringify(options)])
  const ended = once(child, 'exit')
  await Promise.race([once(child, 'message'), ended.then(() => Promise.reject(new Error('It ended before it was killed.')))])
  // The next chunk is asked for beside the calls; it is to have arrived.
  await sleep(ARRIVAL_MS)
  child.kill('SIGKILL')
  await ended
}
