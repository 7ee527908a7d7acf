// begin + settle with every gate and the chain written, beside serialising and hashing the two records that it
// writes: what an audit trail costs by itself.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canonicalJson } from '../src/lib/canonical-json.ts'
import { sha256 } from '../src/lib/ids.ts'
import { memoryStore, openKernel, type Scope } from '../src/index.ts'
import { createEventSplitter } from '../integrations/transport/sse.ts'
import { measure, type Row } from './measure.ts'

const ARGS = { query: 'x'.repeat(180) }

/** Rows of the kernel. */
export async function kernelRows(ms: number): Promise<readonly Row[]> {
  const data = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  const options = {
    data,
    budgets: { acme: { usd: 9_000_000, tokens: 9e15, calls: 9e15 }, 'acme/*': { usd: 9_000_000 } },
    rules: [
      { effect: 'allow', tool: 'search', where: { query: { prefix: 'x'.repeat(4) + '/' } } },
      { effect: 'allow', tool: 'search' },
    ],
  } as const
  const leasing = await openKernel({ ...options, store: memoryStore() })
  const direct = await openKernel({ ...options, store: memoryStore(), leasing: 'off' })
  const [leased, strict] = [leasing, direct].map((kernel) => kernel.scope({ agent: 'bench', task: 'bench', budget: 'acme/bench' })) as [
    Scope,
    Scope,
  ]
  const { yardstick, held, free } = await measure(ms, {
    yardstick: () => [record('intent'), record('outcome')].map((body) => sha256(canonicalJson(body))),
    held: () => call(leased, { usd: 1_000, tokens: 10, calls: 1 }),
    free: () => call(leased, {}),
  })
  // By itself: its commits would leave cold caches to the others.
  const { each } = await measure(ms, { each: () => call(strict, { usd: 1_000, tokens: 10, calls: 1 }) })
  await leasing.close()
  await direct.close()
  rmSync(data, { recursive: true, force: true })
  return [
    row('begin + settle on a held lease, 2 levels, 4 counters, all gates, chain', held.p50, yardstick.p50, '<= 3 x'),
    row('the same, p99', held.p99, yardstick.p50, '<= 20 x'),
    row('the same without leases: two commits (no target)', each.p50, yardstick.p50, '<= 100 x'),
    row('begin + settle of a tool without amounts: gates and chain, no commit', free.p50, yardstick.p50, '<= 3 x'),
    await streamRow(ms),
  ]
}

async function call(scope: Scope, worst: Record<string, number>): Promise<void> {
  const hold = await scope.begin({ kind: 'tool', resource: 'search', args: ARGS, worst })
  await hold.settle(worst)
}

function record(kind: string): Record<string, string | number | Record<string, number>> {
  const hash = 'h'.repeat(43)
  return {
    v: 1,
    chain: 'c'.repeat(22),
    seq: 1,
    prev: hash,
    t: 1_700_000_000_000,
    kind,
    hold: 'i'.repeat(22),
    budget: 'acme/bench',
    agent: 'bench',
    task: 'bench',
    resource: 'search',
    argsHash: hash,
    amounts: { usd: 1_000, tokens: 10, calls: 1 },
  }
}

function row(what: string, us: number, yardstick: number, target: string): Row {
  const ratio = us / yardstick
  return {
    what,
    figure: `${us.toFixed(1)} us`,
    yardstick: `${yardstick.toFixed(1)} us to serialise + hash two records`,
    ratio,
    target,
    met: ratio <= Number(/[\d.]+/.exec(target)![0]),
  }
}

async function streamRow(ms: number): Promise<Row> {
  const event = new TextEncoder().encode(`data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"hello"}}],"usage":null}\n\n`)
  const decoder = new TextDecoder()
  const splitter = createEventSplitter()
  const { yardstick, metered } = await measure(ms / 2, {
    yardstick() {
      for (let count = 0; count < 100; count++) decoder.decode(event)
    },
    metered() {
      for (let count = 0; count < 100; count++) for (const whole of splitter.push(event)) decoder.decode(whole).includes('"usage"')
    },
  })
  const perChunk = metered.p50 / 100
  return {
    what: 'streaming meter, per chunk',
    figure: `${perChunk.toFixed(2)} us`,
    yardstick: `${(yardstick.p50 / 100).toFixed(2)} us to decode the chunk`,
    ratio: metered.p50 / yardstick.p50,
    target: '<= 5 us per chunk',
    met: perChunk <= 5,
  }
}
