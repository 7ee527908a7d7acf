// What one case of the integration suite works with: a provider over real HTTP, a kernel with one budget, the
// framework under test on top of both. Whatever a case did, its benches must balance when it ends.

import assert from 'node:assert/strict'
import { openKernel, memoryStore, type Kernel, type KernelEvent, type Rule, type Scope, type ScopeSource } from '../index.ts'
import { verifyChain, type StoredHead } from '../audit/verify.ts'
import type { Amounts } from '../lib/amounts.ts'
import { sleep } from '../lib/clock.ts'
import { scriptOf, startProvider, type ProviderAnswer, type ProviderRequest, type SimulatedProvider } from './provider.ts'

/** The model that the suite calls; its price is part of the suite. */
export const SUITE_MODEL = 'gpt-4o-mini'
/** Nano-USD per output token of {@link SUITE_MODEL}. */
export const OUTPUT_PRICE = 600
/** Nano-USD per input token of {@link SUITE_MODEL}. */
export const INPUT_PRICE = 150

/** Functions that the model may call, by name; the parameter is the parsed arguments. */
export type SuiteTools = Readonly<Record<string, (args: Readonly<Record<string, unknown>>) => Promise<string>>>

/** One call of the framework. */
export interface CallOptions {
  readonly prompt: string
  /** @default SUITE_MODEL */
  readonly model?: string
  /** @default none is set */
  readonly maxOutputTokens?: number
  readonly signal?: AbortSignal
}

/** A framework, connected. Each member is what a user of the framework would write. */
export interface Calls {
  /** One answer; `raw` is all that the framework says of it, ids and times included. */
  generate(options: CallOptions): Promise<{ readonly text: string; readonly raw: unknown }>
  /** The pieces of a streamed answer. Whoever leaves the loop early, leaves the stream. */
  stream(options: CallOptions): AsyncIterable<string>
  /** All that the framework says of a streamed answer, part by part. */
  parts(options: CallOptions): Promise<readonly unknown[]>
  /** Answers the model's tool calls until it asks for no more, or somebody has to approve first; the last text. */
  runTools?(options: CallOptions & { readonly tools: SuiteTools }): Promise<string>
}

/** What a framework is connected to. */
export interface Site {
  /** False: the framework by itself, to compare with. */
  readonly guarded: boolean
  /** For the integration; `undefined` is the scope of `scope.enter`. */
  readonly scope: ScopeSource
  readonly baseURL: string
  readonly provider: SimulatedProvider
  /** Most retries of the framework. */
  readonly maxRetries: number
  /** The framework's own timeout of a call, ms. @default the framework's */
  readonly timeoutMs?: number
  /** How long a transport guard reads on after its caller left, ms. */
  readonly drainMs: number
  /** What calls of tools count as. */
  readonly toolAmounts?: Readonly<Record<string, Amounts>>
}

/** One way to use one framework. */
export interface IntegrationAdapter {
  /** Begins the name of every test. */
  readonly name: string
  connect(site: Site): Calls
  /** Where the caller of a stream finds its refusal: `findRefusal(error)`, or `scope.refusal` where the framework swallows errors. */
  readonly streamRefusal: 'error' | 'scope'
  /** Whether answers are read to their usage after the caller left, as under a transport guard; else they are charged at worst. */
  readonly drains: boolean
  /**
   * Whether leaving the loop over a stream leaves the answer below it, too. A framework that hands out branches
   * of a stream does not; then nobody reads the answer any more, and its hold ends at its deadline.
   */
  readonly leavesByBreak: boolean
  /** Why it has no `runTools`; its cases stay in the report, with this reason. @default it has */
  readonly withoutTools?: string
}

/** Options of a bench. */
export interface BenchOptions {
  /** Nano-USD of the budget `suite/run`. @default 1 USD, which is far away */
  readonly limit?: number
  /** Further limits of `suite/run`. */
  readonly counters?: Readonly<Record<string, number>>
  /** Answers in order, the last one again and again; or a script. @default an echo */
  readonly answers?: readonly ProviderAnswer[] | ((request: ProviderRequest) => ProviderAnswer)
  /** @default no permissions are checked */
  readonly rules?: readonly Rule[]
  /** @default 0 */
  readonly maxRetries?: number
  readonly timeoutMs?: number
  /** @default 20000 */
  readonly drainMs?: number
  /** @default the kernel's */
  readonly holdDeadlineMs?: number
  readonly toolAmounts?: Site['toolAmounts']
  /** False: the framework by itself, to compare with. @default true */
  readonly guarded?: boolean
  /** Events beside `assumed` that are what the case is about. @default none: they would be alarming */
  readonly expected?: readonly KernelEvent['type'][]
}

/** The end of a hold, as the audit chain has it. */
export interface Outcome {
  readonly hold: string
  readonly budget: string
  readonly outcome: 'settled' | 'released' | 'charged'
  readonly used: Amounts
  readonly assumed?: boolean
  readonly reason?: string
}

/** A provider, a kernel and the framework between them. */
export interface Bench {
  readonly kernel: Kernel
  readonly provider: SimulatedProvider
  /** Of the budget `suite/run`. */
  readonly scope: Scope
  /** The framework, on `scope`. */
  readonly calls: Calls
  readonly events: readonly KernelEvent[]
  /** The options that it was opened with. */
  readonly options: BenchOptions
  /** The framework connected in another way. */
  connect(site: Partial<Site>): Calls
  /** Records of the audit chain. */
  readonly records: (kind: string) => readonly Readonly<Record<string, unknown>>[]
  /** Ends of holds, once none is out any more. */
  outcomes(): Promise<readonly Outcome[]>
  /** Spent on a budget, once nothing is out any more. @default 'suite/run', in usd */
  spent(path?: string, dimension?: string): Promise<number>
}

/** A case of the suite: a claim, and what shows it. */
export interface IntegrationCase {
  /** The chapter, a colon, and the claim. */
  readonly name: string
  /** True when the case needs a framework with tools. */
  readonly tools?: boolean
  readonly run: (suite: {
    readonly adapter: IntegrationAdapter
    readonly open: (options?: BenchOptions) => Promise<Bench>
  }) => Promise<void>
}

const FAR = 1_000_000_000
/** How often the end of the last hold is looked for, and how long each time, ms. */
const LOOKS = 2_000
const LOOK_MS = 4

/** Runs a case; then every bench that it opened has to be in order. */
export async function runCase({ run }: IntegrationCase, adapter: IntegrationAdapter): Promise<void> {
  const opened: { bench: Bench; close: () => Promise<void> }[] = []
  try {
    await run({
      adapter,
      async open(options = {}) {
        const one = await openBench(adapter, options)
        opened.push(one)
        return one.bench
      },
    })
    for (const { bench } of opened) await assertInOrder(bench)
  } finally {
    for (const { close } of opened) await close()
  }
}

async function openBench(adapter: IntegrationAdapter, options: BenchOptions): Promise<{ bench: Bench; close: () => Promise<void> }> {
  const { limit = FAR, counters = {}, answers = [{}], rules, guarded = true } = options
  const { maxRetries = 0, timeoutMs, drainMs = 20_000, holdDeadlineMs, toolAmounts } = options
  const provider = await startProvider({ script: typeof answers === 'function' ? answers : scriptOf(answers) })
  const events: KernelEvent[] = []
  const kernel = await openKernel({
    store: memoryStore(),
    budgets: { suite: { usd: usd(FAR * 10) }, 'suite/run': { usd: usd(limit), ...counters }, 'suite/*': { usd: usd(FAR) } },
    prices: { [SUITE_MODEL]: { inputUsdPerMillion: '0.15', cacheReadUsdPerMillion: '0.075', outputUsdPerMillion: '0.6' } },
    onEvent: (event) => events.push(event),
    waitMs: 0,
    ...(holdDeadlineMs === undefined ? {} : { holdDeadlineMs }),
    ...(rules === undefined ? {} : { rules }),
  })
  const scope = kernel.scope({ agent: 'suite-agent', task: 'suite-task', budget: 'suite/run' })
  const site: Site = {
    guarded,
    scope,
    baseURL: provider.baseURL,
    provider,
    maxRetries,
    drainMs,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(toolAmounts === undefined ? {} : { toolAmounts }),
  }
  const records = (kind: string): readonly Readonly<Record<string, unknown>>[] =>
    kernel.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((record) => record['kind'] === kind)
  const bench: Bench = {
    kernel,
    provider,
    scope,
    events,
    options,
    calls: adapter.connect(site),
    connect: (changes) => adapter.connect({ ...site, ...changes }),
    records,
    async outcomes() {
      await nothingOut(kernel)
      return records('outcome') as unknown as readonly Outcome[]
    },
    async spent(path = 'suite/run', dimension = 'usd') {
      await nothingOut(kernel)
      const lines = await kernel.budgets(path)
      return lines.find((line) => line.budget === path && line.dimension === dimension)?.spent ?? 0
    },
  }
  const close = async (): Promise<void> => {
    await kernel.close()
    await provider.close()
  }
  return { bench, close }
}

/** What must hold after every case, whatever happened in it. */
async function assertInOrder({ kernel, provider, events, options, records }: Bench): Promise<void> {
  await nothingOut(kernel)
  const lines = await kernel.budgets()
  for (const line of lines) {
    assert.equal(line.out, 0, `Nothing stays held when all is over: ${JSON.stringify(line)}`)
    assert.ok(line.balanced, `Every budget balances: ${JSON.stringify(line)}`)
  }
  const spent = lines.find(({ budget, dimension }) => budget === 'suite' && dimension === 'usd')!.spent
  const { nanoUsd } = provider.bill()
  if (options.guarded !== false) assert.ok(nanoUsd <= spent, `Billed ${nanoUsd}, but only ${spent} was counted.`)
  const ends = Map.groupBy(records('outcome') as unknown as readonly Outcome[], ({ hold }) => hold)
  for (const [hold, list] of ends) {
    // The one end that may be followed by another is that of a deadline: who knows better afterwards corrects it.
    const late = list.length === 2 && list[0]!.reason === 'its deadline passed' && list[1]!.outcome !== 'charged'
    assert.ok(list.length === 1 || late, `Hold ${hold} ended more than once: ${JSON.stringify(list)}`)
  }
  const alarming = events.filter(({ type }) => type !== 'assumed' && options.expected?.includes(type) !== true)
  assert.deepEqual(alarming, [], 'Nothing alarming happened.')
  const [head] = await kernel.store.read([`head/${kernel.boot}`])
  const verdict = await verifyChain(kernel.boot, kernel.auditLines, head?.value as StoredHead | undefined)
  assert.ok(verdict.ok, `The audit chain verifies: ${verdict.fault}`)
}

async function nothingOut(kernel: Kernel): Promise<void> {
  for (let looks = 0; looks < LOOKS; looks++) {
    // What lies idle in leases is held by nobody.
    await kernel.flush()
    if ((await kernel.budgets()).every(({ out }) => out === 0)) return
    await sleep(LOOK_MS)
  }
}

/** Waits until something is so; a case must not depend on how fast that is. */
export async function until(what: string, so: () => boolean | Promise<boolean>): Promise<void> {
  for (let looks = 0; looks < LOOKS; looks++) {
    if (await so()) return
    await sleep(LOOK_MS)
  }
  assert.fail(`It never came to this: ${what}.`)
}

/** What a call is held at when limits are far away. */
export interface WorstCase {
  /** Nano-USD without any output. */
  readonly fixed: number
  /** Most input tokens, as they are held. */
  readonly inputTokens: number
  /** Output tokens that were granted. */
  readonly outputTokens: number
}

/** Measures the worst case of a call on a bench of its own. */
export async function worstCaseOf(open: (options?: BenchOptions) => Promise<Bench>, options: CallOptions): Promise<WorstCase> {
  const bench = await open()
  await bench.calls.generate(options)
  const intent = bench.records('intent')[0]!
  const outputTokens = intent['outputTokens'] as number
  const fixed = (intent['amounts'] as Amounts)['usd']! - outputTokens * OUTPUT_PRICE
  return { fixed, inputTokens: fixed / INPUT_PRICE, outputTokens }
}

/** Reads a stream to its end. */
export async function readAll(stream: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const piece of stream) text += piece
  return text
}

/** The error of a call that must fail, or `undefined` for one that ended without throwing. */
export async function errorOf(call: () => Promise<unknown>): Promise<unknown> {
  try {
    await call()
    return undefined
  } catch (error) {
    return error
  }
}

/** The output cap that a request carries, under whatever name. */
export function capOf(request: ProviderRequest | undefined): unknown {
  const { max_completion_tokens: completion, max_tokens: tokens, max_output_tokens: output } = request?.body ?? {}
  const { maxOutputTokens: google } = (request?.body['generationConfig'] ?? {}) as Readonly<Record<string, unknown>>
  return completion ?? tokens ?? output ?? google
}

function usd(nanoUsd: number): string {
  return (nanoUsd / 1_000_000_000).toFixed(9)
}
