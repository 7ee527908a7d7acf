// The integration suite itself: each of its promises is broken by an integration that was made for that, and the
// case that is named must notice, while it passes for the real one. And waivers: by name, with a reason, never
// about safety.

import OpenAI from 'openai'
import { describe, expect, test } from 'vitest'
import { guardFetch } from '../../integrations/transport/guard-fetch.ts'
import { wrapOpenAI } from '../../integrations/openai.ts'
import { refusalToBody, type Refusal } from '../../src/lib/errors.ts'
import { OUTPUT_PRICE, SUITE_MODEL, type Calls, type IntegrationAdapter, type Site } from '../../src/testing/integration-bench.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { chatCalls, defined } from './adapters.ts'
import { OPENAI_CHAT, casesOf } from './bench.ts'

interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
}

/** What a home-made wrapper does at each turn; each control changes one of them. */
interface Habits {
  refused(refusal: Refusal, url: string, init: RequestInit): Promise<Response>
  failed(hold: Hold): Promise<void>
  answered(hold: Hold, usage: Usage, text: string): Promise<void>
}

const WORST = { usd: 5_500_000, tokens: 9_000, calls: 1 }
const costOf = ({ prompt_tokens: input, completion_tokens: output, prompt_tokens_details: { cached_tokens: cached } }: Usage) => ({
  usd: (input - cached) * 150 + cached * 75 + output * OUTPUT_PRICE,
  tokens: input + output,
  calls: 1,
})

const HABITS: Habits = {
  refused: async (refusal) => Response.json(refusalToBody(refusal), { status: 402 }),
  failed: (hold) => hold.charge('it failed'),
  answered: (hold, usage) => hold.settle(costOf(usage)),
}

/** A wrapper as one writes it in an afternoon: it holds, and settles what it reads in whole answers. */
function homeMade(habits: Partial<Habits>): (scope: Scope) => typeof fetch {
  const { refused, failed, answered } = { ...HABITS, ...habits }
  return (scope) => async (url, init) => {
    let hold: Hold
    try {
      hold = await scope.begin({ kind: 'model', resource: SUITE_MODEL, worst: WORST })
    } catch (error) {
      return refused(error as Refusal, url as string, init!)
    }
    try {
      const response = await fetch(url, init)
      const text = await response.text()
      if (response.ok) await answered(hold, (JSON.parse(text) as { usage: Usage }).usage, text)
      else await failed(hold)
      return new Response(text, response)
    } catch (error) {
      await failed(hold)
      throw error
    }
  }
}

/** The real guard with something around it. */
function around(change: (guarded: typeof fetch, scope: Scope) => typeof fetch): (scope: Scope) => typeof fetch {
  return (scope) => change(guardFetch(scope), scope)
}

function adapterOn(fetchOn: (scope: Scope) => typeof fetch, change: (calls: Calls) => Calls = (calls) => calls): IntegrationAdapter {
  const connect = ({ guarded, scope, baseURL, maxRetries, timeoutMs }: Site): Calls => {
    const options = defined({ apiKey: 'test', baseURL, maxRetries, timeout: timeoutMs, logLevel: 'off' as const })
    return change(chatCalls(new OpenAI(guarded ? { ...options, fetch: fetchOn(scope as Scope) } : options)))
  }
  return { ...OPENAI_CHAT, name: 'broken', drains: false, connect }
}

/** The body of a request, changed on its way out below the guard. */
function rewriting(rewrite: (body: Record<string, unknown>) => object): (scope: Scope) => typeof fetch {
  const send: typeof fetch = (url, init) => {
    const body = JSON.stringify(rewrite(JSON.parse(init!.body as string) as Record<string, unknown>))
    return fetch(url, { ...init, body })
  }
  return (scope) => guardFetch(scope, { fetch: send })
}

const EXACT = 'safety: an answer is settled at what the provider bills, to the nano-dollar'
const NO_HTTP = 'safety: a call that does not fit is refused before any HTTP, and its caller finds the refusal in the error'
const ONCE = 'safety: a refusal is recorded once, however often the framework would retry'
const ABORTED = 'safety: a call that is aborted while its answer is awaited ends its hold once'
const BILLED = 'safety: an error that was billed all the same is covered'

const BROKEN: readonly (readonly [what: string, adapter: IntegrationAdapter, caughtBy: string])[] = [
  ['is not there at all', adapterOn(() => fetch), EXACT],
  [
    'estimates from the length of the text',
    adapterOn(homeMade({ answered: (hold, _, text) => hold.settle({ ...WORST, usd: Math.ceil(text.length / 4) * OUTPUT_PRICE }) })),
    EXACT,
  ],
  [
    'forgets that cached tokens are cheaper',
    adapterOn(homeMade({ answered: (hold, usage) => hold.settle(costOf({ ...usage, prompt_tokens_details: { cached_tokens: 0 } })) })),
    EXACT,
  ],
  ['charges the worst case for every answer', adapterOn(homeMade({ answered: (hold) => hold.charge('answered') })), EXACT],
  [
    'counts one attempt in two layers',
    adapterOn(around((guarded, scope) => guardFetch(scope, { fetch: (url, init) => guarded(url, init) }))),
    EXACT,
  ],
  ['sends what was refused', adapterOn(homeMade({ refused: (_, url, init) => fetch(url, init) })), NO_HTTP],
  [
    'asks when the answer is there',
    adapterOn((scope) => async (url, init) => {
      await fetch(url, init)
      return guardFetch(scope)(url, init)
    }),
    NO_HTTP,
  ],
  [
    'hides the refusal behind an error of its own',
    adapterOn(homeMade({ refused: async () => Response.json({ error: { message: 'no' } }, { status: 402 }) })),
    NO_HTTP,
  ],
  ['throws the refusal where it is retried', adapterOn(homeMade({ refused: (refusal) => Promise.reject(refusal) })), ONCE],
  ['gives the money back when the caller leaves', adapterOn(homeMade({ failed: (hold) => hold.release('it failed') })), ABORTED],
  [
    'ends a hold twice when the caller leaves',
    adapterOn(
      homeMade({
        async failed(hold) {
          await hold.charge('it failed')
          await hold.settle({ usd: WORST.usd })
        },
      }),
    ),
    ABORTED,
  ],
  ['never ends a hold when the caller leaves', adapterOn(homeMade({ failed: async () => {} })), ABORTED],
  ['gives the money back for a 500', adapterOn(homeMade({ failed: (hold) => hold.release('it failed') })), BILLED],
  [
    'sends no cap',
    adapterOn(rewriting(({ max_completion_tokens: _cap, ...body }) => body)),
    'safety: a call without an output cap is sent with 8192 when that fits',
  ],
  [
    'sends a smaller cap',
    adapterOn(rewriting((body) => ({ ...body, max_completion_tokens: 10 }))),
    'safety: an output cap of the caller is sent as it is, and never shrunk',
  ],
  [
    'adds a field of its own',
    adapterOn(rewriting((body) => ({ ...body, user: 'x' }))),
    'transparency: a request without a cap differs by the cap only',
  ],
  [
    'shows the usage that nobody asked for',
    adapterOn(
      around((guarded) => (url, init) => {
        const body = JSON.parse(init!.body as string) as { stream?: boolean }
        const asking = body.stream === true ? { ...body, stream_options: { include_usage: true } } : body
        return guarded(url, { ...init, body: JSON.stringify(asking) })
      }),
    ),
    'transparency: the parts of a stream are the same, and the usage that only holdfast asked for is not among them',
  ],
  [
    'lets every tool run',
    adapterOn((scope) => guardFetch(scope)),
    'tools: a denied tool does not run, and the model is told what to do, and nothing else',
  ],
]

/** An integration whose tools answer a denial with the text for the operator. */
const TELLS_THE_MODEL: IntegrationAdapter = {
  ...OPENAI_CHAT,
  connect(site) {
    const calls = OPENAI_CHAT.connect(site)
    return {
      ...calls,
      runTools({ tools, ...options }) {
        const scope = site.scope as Scope
        const client = wrapOpenAI(new OpenAI({ apiKey: 'test', baseURL: site.baseURL, logLevel: 'off' }), scope)
        const telling = Object.entries(tools).map(([name, run]) => {
          const asking: typeof run = async (args) => (await scope.decide({ kind: 'tool', resource: name, args }))?.message ?? run(args)
          return [name, asking] as const
        })
        // Through a client whose own gates are not asked: raw functions, no `runTools` of the wrapped client.
        const unasked = new OpenAI({ apiKey: 'test', baseURL: site.baseURL, fetch: client['fetch'] as typeof fetch, logLevel: 'off' })
        return chatCalls(unasked).runTools!({ ...options, tools: Object.fromEntries(telling) })
      },
    }
  },
}

describe('the suite notices an integration that', () => {
  test.concurrent.each([...BROKEN, ['tells the model what is for the operator', TELLS_THE_MODEL, BROKEN.at(-1)![2]] as const])(
    '%s',
    async (_, adapter, caughtBy) => {
      await expect(casesOf(adapter).get(caughtBy)!()).rejects.toMatchObject({ code: 'ERR_ASSERTION' })
      await expect(casesOf(OPENAI_CHAT).get(caughtBy)!()).resolves.toBeUndefined()
    },
  )
})

test.concurrent.each([EXACT, NO_HTTP, ONCE, ABORTED, BILLED])('a home-made wrapper without a bad habit passes %j', async (name) => {
  await expect(casesOf(adapterOn(homeMade({}))).get(name)!()).resolves.toBeUndefined()
})

describe('the suite', () => {
  test('names every case once, by chapter', () => {
    const names = [...casesOf(OPENAI_CHAT).keys()]
    expect(names.length).toBeGreaterThanOrEqual(60)
    for (const name of names) expect(name).toMatch(/^(safety|tools|parallel|transparency): \S/)
  })

  test('keeps the cases of tools in the report of an integration without tools, with its reason', async () => {
    const cases = casesOf({ ...OPENAI_CHAT, withoutTools: 'a transport has none' })
    const waived = [...cases.keys()].filter((name) => name.endsWith('(waived: a transport has none)'))
    expect(waived.length).toBeGreaterThanOrEqual(10)
    expect(waived.some((name) => name.startsWith('safety:'))).toBe(false)
    await expect(cases.get(waived[0]!)!()).resolves.toBeUndefined()
  })
})

describe('a waiver', () => {
  const waived = 'transparency: an answer is the same, ids and times aside'

  test('keeps its case in the report, with its reason, and runs nothing', async () => {
    const broken = { ...OPENAI_CHAT, connect: () => expect.unreachable('it ran') }
    const cases = casesOf(broken, [{ test: waived, reason: 'answers carry a trace' }])
    await cases.get(`${waived} (waived: answers carry a trace)`)!()
    expect(cases.has(waived)).toBe(false)
  })

  test('of a safety case, of an unknown case or without a reason is refused at registration', () => {
    expect(() => casesOf(OPENAI_CHAT, [{ test: EXACT, reason: 'too exact' }])).toThrow(/cannot be waived/)
    expect(() => casesOf(OPENAI_CHAT, [{ test: 'tools: something else', reason: 'x' }])).toThrow(/no test/)
    expect(() => casesOf(OPENAI_CHAT, [{ test: waived, reason: ' ' }])).toThrow(/needs a reason/)
  })
})
