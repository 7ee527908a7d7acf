// A process of its own that spends money at a provider until it is told to stop: `node spender.ts <options as JSON>`.
// It says `ready`, waits for `go`, and says what it did when it ends. It ends by itself when its parent dies.

import { readFileSync, writeFileSync } from 'node:fs'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import { sleep } from '../../src/lib/clock.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { fileStore } from '../../src/stores/file.ts'
import type { Hold, Settlement } from '../../src/waist/hold.ts'
import type { Scope } from '../../src/waist/scope.ts'
import type { Spent, SpenderOptions } from './process-bench.ts'

const { directory, baseURL, budget, name, callers, calls, outputTokens, leaseTtlMs, waitMs, how } = JSON.parse(
  process.argv[2]!,
) as SpenderOptions
const done = { answered: 0, failed: 0, refused: {} as Record<string, number> }
const stopping = new AbortController()

process.once('disconnect', () => process.exit(1))
process.on('message', (message) => {
  if (message === 'stop') stopping.abort()
})

const body = JSON.stringify({
  model: 'gpt-4o-mini',
  messages: [{ role: 'user', content: `${name} counts to ten` }],
  max_completion_tokens: outputTokens,
})

/** One call, through whatever `send` is. */
async function call(send: typeof fetch): Promise<void> {
  try {
    const headers = { 'content-type': 'application/json' }
    const response = await send(`${baseURL}/chat/completions`, { method: 'POST', headers, body })
    const text = await response.text()
    const refusal = response.status === 402 ? findRefusal(JSON.parse(text)) : undefined
    if (refusal !== undefined) {
      done.refused[refusal.code] = (done.refused[refusal.code] ?? 0) + 1
      await sleep(20)
    } else if (response.ok) done.answered += 1
    else done.failed += 1
  } catch {
    // A connection that the provider dropped; what it cost is the kernel's business, and the parent counts it.
    done.failed += 1
  }
}

type Send = (count: number) => Promise<void>

async function loop(send: Send): Promise<void> {
  for (let count = 0; !stopping.signal.aborted && count < calls; count++) await send(count)
}

/** Hands the call to a helper with money for two; each second helper has one of his own. */
async function handOff(scope: Scope, depth: number): Promise<void> {
  try {
    await using handoff = await scope.handoff({ to: `helper-${depth}`, budget: { usd: '0.0002' }, instruction: 'Count.' })
    if (depth > 0) await handOff(handoff.scope, depth - 1)
    else await call(guardFetch(handoff.scope))
  } catch (error) {
    const { code } = findRefusal(error) ?? { code: 'none' }
    if (code === 'none') throw error
    done.refused[code] = (done.refused[code] ?? 0) + 1
    await sleep(20)
  }
}

async function spend(send: Send): Promise<void> {
  const go = new Promise<void>((resolve) => process.once('message', () => resolve()))
  process.send!('ready')
  await go
  await Promise.all(Array.from({ length: callers }, () => loop(send)))
}

const refund = (settlement: Settlement): Settlement => ({ ...settlement, charge: (reason) => settlement.release(reason) })

/** How not to do it: whatever went wrong costs nothing. */
function refunding(scope: Scope): Scope {
  const begin: Scope['begin'] = async (action, options) => {
    const hold = await scope.begin(action, options)
    return { ...hold, claim: () => refund(hold.claim()!) } satisfies Hold
  }
  return { ...scope, begin }
}

/** How not to do it: look whether there is room, call, and write down what it cost. */
function checkThenCharge(limit: number): typeof fetch {
  const file = `${directory}/spent.json`
  const read = (): number => (JSON.parse(readFileSync(file, 'utf8')) as { spent: number }).spent
  return async (url, init) => {
    if (read() >= limit) {
      stopping.abort()
      return new Response('{}', { status: 402 })
    }
    const response = await fetch(url, init)
    const answer = await response.text()
    const { usage } = JSON.parse(answer) as { usage: { prompt_tokens: number; completion_tokens: number } }
    writeFileSync(file, JSON.stringify({ spent: read() + usage.prompt_tokens * 150 + usage.completion_tokens * 600 }))
    return new Response(answer, { status: response.status })
  }
}

async function run(): Promise<void> {
  if (how === 'check-then-charge') {
    const send = checkThenCharge(Number(budget))
    return spend(() => call(send))
  }
  const store = fileStore(directory, { durability: 'os' })
  const kernel: Kernel = await openKernel({ store, leaseTtlMs, waitMs, onEvent: () => undefined })
  const scope = kernel.scope({ agent: 'spender', task: name, budget })
  await scope.prices()
  const send = guardFetch(how === 'refund-on-error' ? refunding(scope) : scope)
  await spend(how === 'handoff' ? (count) => handOff(scope, count % 2) : () => call(send))
  await kernel.close()
  await store.close()
}

await run()
process.send!(done satisfies Spent, () => process.exit(0))
