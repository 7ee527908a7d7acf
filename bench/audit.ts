// The audit chain: appending a record beside serialising and hashing the same bytes, and verifying beside the same.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openChain } from '../src/audit/chain.ts'
import { verifyChain } from '../src/audit/verify.ts'
import { canonicalJson } from '../src/lib/canonical-json.ts'
import { systemClock } from '../src/lib/clock.ts'
import { sha256 } from '../src/lib/ids.ts'
import { measure, type Row } from './measure.ts'

const FIELDS = {
  hold: 'i'.repeat(22),
  budget: 'acme/bench',
  agent: 'bench',
  task: 'bench',
  resource: 'search',
  argsHash: 'h'.repeat(43),
  amounts: { usd: 1_000, tokens: 10, calls: 1 },
}
const RECORDS = 1_000

/** Rows of the audit chain. */
export async function auditRows(ms: number): Promise<readonly Row[]> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  const body = { ...FIELDS, v: 1, chain: 'c'.repeat(22), seq: 1_000, prev: 'p'.repeat(43), t: 1_700_000_000_000, kind: 'intent' }
  const lines = sampleOf(directory)
  const chain = openChain({ boot: 'bench', clock: systemClock, directory, durable: false })
  const { yardstick, append, verify } = await measure(ms, {
    yardstick: () => sha256(canonicalJson(body)),
    append: () => chain.append('intent', FIELDS),
    verify: () => verifyChain('sample', lines, undefined),
  })
  chain.close(true)
  rmSync(directory, { recursive: true, force: true })
  return [
    row('audit append, written to the file', append.p50, yardstick.p50),
    row('audit verify', verify.p50 / lines.length, yardstick.p50),
  ]
}

function sampleOf(directory: string): readonly string[] {
  const chain = openChain({ boot: 'sample', clock: systemClock, directory, durable: false })
  for (let record = 0; record < RECORDS; record++) chain.append('intent', FIELDS)
  chain.close(true)
  return readFileSync(join(directory, 'chains', 'sample.jsonl'), 'utf8')
    .split('\n')
    .slice(0, RECORDS)
}

function row(what: string, us: number, yardstick: number): Row {
  const ratio = yardstick / us
  return {
    what,
    figure: `${us.toFixed(2)} us a record`,
    yardstick: `${yardstick.toFixed(2)} us to serialise + hash it`,
    ratio,
    target: '>= 0.5 x',
    met: ratio >= 0.5,
  }
}
