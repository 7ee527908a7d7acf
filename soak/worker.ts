// A process of its own that spends until it is told to stop: `node worker.ts <orders as JSON>`. It says `ready`, waits
// for `go`, tells what it did ten times a second (it may not live to the end), and ends by itself when its parent dies.

import { flushCompileCache } from 'node:module'
import { guardFetch } from '../integrations/transport/guard-fetch.ts'
import { openKernel, type Kernel } from '../src/kernel/open-kernel.ts'
import { sleep } from '../src/lib/clock.ts'
import { HoldfastError, Refusal, findRefusal } from '../src/lib/errors.ts'
import { groupCommits } from '../src/stores/group.ts'
import type { Store } from '../src/stores/store.ts'
import { seededRandom } from '../src/testing/faulty-store.ts'
import type { Hold, Settlement } from '../src/waist/hold.ts'
import type { Scope } from '../src/waist/scope.ts'
import { OUTPUT_TOKENS, ROOT, TEAMS, teamMark } from './market.ts'
import { NAIVE, type Exceeded, type Orders } from './orders.ts'
import { dataOf, openStore } from './site.ts'

/** Nobody waits longer for an answer; what hangs is charged at worst. */
const PATIENCE_MS = 2_000
const TELL_MS = 100
/** Trouble that a store which comes and goes makes; any other failure of the kernel is news. */
const EXPECTED: ReadonlySet<string> = new Set(['ERR_STORE', 'ERR_CLOSED', 'ERR_CONFLICT'])

const orders = JSON.parse(process.argv[2]!) as Orders
const random = seededRandom(orders.seed)
const stopping = new AbortController()
let tally = emptyTally()

function emptyTally() {
  return { counts: {} as Record<string, number>, exceeded: [] as Exceeded[], troubles: [] as string[] }
}

function count(what: string, by = 1): void {
  tally.counts[what] = (tally.counts[what] ?? 0) + by
}

function tell(): void {
  process.send?.(tally, () => undefined)
  tally = emptyTally()
}

/** Counts what went wrong, and waits a moment; only what nobody expects is told in words. */
async function failed(error: unknown, sinceMs: number): Promise<void> {
  const refusal = findRefusal(error)
  if (refusal !== undefined) {
    count(refusal.code)
    const { budget } = refusal.details
    if (refusal.code === 'ERR_BUDGET_EXCEEDED' && budget !== undefined) tally.exceeded.push({ ...budget, sinceMs })
    if (refusal.code === 'ERR_BUDGET_FROZEN') tally.troubles.push(refusal.message)
    return sleep(30 + random() * 50)
  }
  if (HoldfastError.isInstance(error)) {
    count(error.code)
    if (!EXPECTED.has(error.code)) tally.troubles.push(`${orders.name}: ${error.code} ${error.message}`)
    return sleep(50)
  }
  // A connection that the provider dropped, or patience that ran out.
  count('failed')
}

const bodyOf = (team: string, stream: boolean): string =>
  JSON.stringify({
    model: 'gpt-4o-mini',
    messages: [{ role: 'user', content: `${teamMark(team)} ${orders.name} counts to ten, slowly and aloud, and tells what it saw` }],
    max_completion_tokens: OUTPUT_TOKENS,
    ...(stream ? { stream: true } : {}),
  })

async function call(send: typeof fetch, team: string): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  const signal = AbortSignal.timeout(PATIENCE_MS)
  const response = await send(`${orders.baseURL}/chat/completions`, {
    method: 'POST',
    headers,
    signal,
    body: bodyOf(team, random() < 0.15),
  })
  const text = await response.text()
  if (response.ok) return count('answered')
  throw (response.status === 402 ? findRefusal(JSON.parse(text)) : undefined) ?? new Error(`status ${response.status}`)
}

/** Prints pages: an effect with a price in a counter of its own. */
async function print(scope: Scope, team: string): Promise<void> {
  const pages = 1 + Math.floor(random() * 3)
  await scope.run({ kind: 'tool', resource: 'print', worst: { pages } }, async () => {
    const response = await fetch(`${orders.printURL}?team=${team}&pages=${pages}`, {
      method: 'POST',
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    await response.text()
  })
  count('printed')
}

/** Hands a call to a helper, who may hand it on, with money that was moved for it. */
async function handOff(scope: Scope, team: string, depth: number): Promise<void> {
  await using handoff = await scope.handoff({ to: `helper-${depth}`, budget: { usd: '0.0004' }, instruction: 'Count.' })
  await (depth > 0 ? handOff(handoff.scope, team, depth - 1) : call(guardFetch(handoff.scope), team))
  count('handoffs')
}

/** Adds one to a key that all share; what was acknowledged must be there in the end. */
async function write(kernel: Kernel, scope: Scope, team: string): Promise<void> {
  await kernel.blackboard(scope).transact(async (tx) => tx.write(team, Number((await tx.read(team)) ?? 0) + 1))
  count(`written/${team}`)
}

/** One caller: something at random, again and again. */
async function spend(kernel: Kernel, team: string): Promise<void> {
  const own = kernel.scope({ agent: 'worker', task: orders.name, budget: `${ROOT}/${team}` })
  const scope = orders.how === 'refund-on-error' ? refunding(own) : own
  const send = guardFetch(scope)
  while (!stopping.signal.aborted) {
    const chance = random()
    const sinceMs = Date.now()
    try {
      if (chance < 0.06) await print(scope, team)
      else if (chance < 0.14) await handOff(scope, team, chance < 0.1 ? 1 : 0)
      else if (chance < 0.19) await write(kernel, scope, team)
      else await call(send, team)
      if (chance > 0.995) await kernel.flush()
    } catch (error) {
      await failed(error, sinceMs)
    }
  }
}

/** How not to do it: whatever went wrong costs nothing. */
function refunding(scope: Scope): Scope {
  const refund = (settlement: Settlement): Settlement => ({ ...settlement, charge: (reason) => settlement.release(reason) })
  const begin: Scope['begin'] = async (action, options) => {
    const hold = await scope.begin(action, options)
    return { ...hold, claim: () => refund(hold.claim()!) } satisfies Hold
  }
  return { ...scope, begin }
}

/** How not to do it: look whether there is room, call, and write down what it cost. */
async function checkThenCharge(store: Store, team: string): Promise<void> {
  const committer = groupCommits(store)
  const send: typeof fetch = async (url, init) => {
    const [spent, limit] = await store.read([NAIVE.spent, NAIVE.limit])
    if (Number(spent?.value ?? 0) >= Number(limit?.value ?? 0)) throw new Refusal('ERR_BUDGET_EXCEEDED', 'Nothing is left.')
    const response = await fetch(url, init)
    const text = await response.clone().text()
    const { usage } = JSON.parse(text) as { usage: { prompt_tokens: number; completion_tokens: number } }
    await committer.commit({ add: [{ key: NAIVE.spent, by: usage.prompt_tokens * 150 + usage.completion_tokens * 600 }] })
    return response
  }
  while (!stopping.signal.aborted) await call(send, team).catch((error: unknown) => failed(error, Date.now()))
}

async function begun(): Promise<void> {
  // Who is killed writes nothing when it ends.
  flushCompileCache()
  await new Promise<void>((resolve) => {
    process.once('message', () => resolve())
    process.send!('ready')
  })
}

const callers = (of: (team: string) => Promise<void>): Promise<unknown> =>
  Promise.all(Array.from({ length: orders.callers }, (_, index) => of(TEAMS[(orders.seed + index) % TEAMS.length]!)))

async function open(store: Store): Promise<Kernel> {
  for (;;) {
    try {
      const { leaseTtlMs, waitMs, leasing } = orders
      return await openKernel({
        store,
        data: dataOf(orders.address),
        leaseTtlMs,
        waitMs,
        leasing,
        onEvent({ type, message }) {
          count(`event/${type}`)
          if (type === 'unbalanced') tally.troubles.push(`${type}: ${message}`)
        },
      })
    } catch (error) {
      if (!HoldfastError.isInstance(error) || error.code !== 'ERR_STORE') throw error
    }
    await sleep(100)
  }
}

async function run(): Promise<void> {
  process.once('disconnect', () => process.exit(1))
  process.on('message', (message) => {
    if (message === 'stop') stopping.abort()
  })
  const store = await openStore(orders.address)
  const telling = setInterval(tell, TELL_MS)
  if (orders.how === 'check-then-charge') {
    await begun()
    await callers((team) => checkThenCharge(store, team))
  } else {
    const kernel = await open(store)
    // The price list is large; loading it is not what is measured.
    await kernel.scope({ agent: 'worker', task: orders.name, budget: ROOT }).prices()
    await begun()
    await callers((team) => spend(kernel, team))
    await kernel.close()
  }
  await store.close()
  clearInterval(telling)
  process.send!(tally, () => process.exit(0))
}

await run()
