// Chapter `transparency` of the integration suite: with limits far away nothing changes but what is listed. Each
// case runs twice, with holdfast and with the framework by itself, and compares.

import assert from 'node:assert/strict'
import { errorOf, readAll, type Bench, type BenchOptions, type CallOptions, type IntegrationCase } from './integration-bench.ts'
import type { ProviderAnswer } from './provider.ts'

const CALL: CallOptions = { prompt: 'Count the ships that lie in the harbour tonight.' }
const CAPPED: CallOptions = { ...CALL, maxOutputTokens: 50 }
const ANSWER: ProviderAnswer = {
  text: 'Nine ships lie in the harbour.',
  usage: { inputTokens: 61, cachedTokens: 40, outputTokens: 9, reasoningTokens: 2 },
}
/** What holdfast may add to a request. */
const LISTED_ADDITIONS = ['max_completion_tokens', 'max_tokens', 'max_output_tokens', 'generationConfig', 'stream_options']

type Open = (options?: BenchOptions) => Promise<Bench>

/** What does not change. */
export const transparencyCases: readonly IntegrationCase[] = [
  {
    name: 'transparency: a request with a cap of its own leaves byte for byte as it would without holdfast',
    async run({ open }) {
      const [guarded, bare] = await both(open, ({ calls }) => calls.generate(CAPPED))
      assert.equal(JSON.stringify(guarded.bench.provider.requests()[0]!.body), JSON.stringify(bare.bench.provider.requests()[0]!.body))
      assert.deepEqual(headersOf(guarded.bench), headersOf(bare.bench))
    },
  },
  {
    name: 'transparency: a request without a cap differs by the cap only',
    async run({ open }) {
      const [guarded, bare] = await both(open, ({ calls }) => calls.generate(CALL))
      assert.deepEqual(additions(guarded.bench, bare.bench).length, 1)
    },
  },
  {
    name: 'transparency: the request of a stream differs by a cap and by asking for usage only',
    async run({ open }) {
      const [guarded, bare] = await both(open, ({ calls }) => readAll(calls.stream(CALL)))
      const added = additions(guarded.bench, bare.bench)
      assert.ok(added.length <= 2)
      const options = guarded.bench.provider.requests()[0]!.body['stream_options']
      if (added.includes('stream_options')) assert.deepEqual(options, { include_usage: true })
    },
  },
  {
    name: 'transparency: an answer is the same, ids and times aside',
    async run({ open }) {
      const [guarded, bare] = await both(open, ({ calls }) => calls.generate(CAPPED))
      assert.deepEqual(scrubbed(guarded.result), scrubbed(bare.result))
    },
  },
  {
    name: 'transparency: the parts of a stream are the same, and the usage that only holdfast asked for is not among them',
    async run({ open }) {
      const [guarded, bare] = await both(open, ({ calls }) => calls.parts(CAPPED))
      assert.deepEqual(scrubbed(guarded.result), scrubbed(bare.result))
    },
  },
  {
    name: 'transparency: the error of a provider is the same',
    async run({ open }) {
      for (const status of [400, 429, 500]) {
        const answers = [{ status }]
        const [guarded, bare] = await both(open, ({ calls }) => errorOf(() => calls.generate(CALL)), answers)
        assert.deepEqual(described(guarded.result), described(bare.result))
      }
    },
  },
  {
    name: 'transparency: the error of a broken connection is the same',
    async run({ open }) {
      const answers = [{ fault: 'drop-before-headers' }] as const
      const [guarded, bare] = await both(open, ({ calls }) => errorOf(() => calls.generate(CALL)), answers)
      assert.deepEqual(described(guarded.result), described(bare.result))
    },
  },
  {
    name: 'transparency: a tool loop sends the same turns',
    tools: true,
    async run({ open }) {
      const answers = [{ toolCalls: [{ name: 'look', arguments: { at: 'pier 4' } }] }, { text: 'Done.' }]
      const tools = { look: async () => 'two ships' }
      const [guarded, bare] = await both(open, ({ calls }) => calls.runTools!({ ...CAPPED, tools }), answers)
      assert.equal(guarded.result, bare.result)
      assert.deepEqual(bodiesOf(guarded.bench), bodiesOf(bare.bench))
    },
  },
]

interface Side<T> {
  readonly bench: Bench
  readonly result: T
}

async function both<T>(
  open: Open,
  call: (bench: Bench) => Promise<T>,
  answers: NonNullable<BenchOptions['answers']> = [ANSWER],
): Promise<readonly [Side<T>, Side<T>]> {
  const guarded = await open({ answers })
  const bare = await open({ answers, guarded: false })
  return [
    { bench: guarded, result: await call(guarded) },
    { bench: bare, result: await call(bare) },
  ]
}

/** Names of what is added; anything else that differs fails the case. */
function additions(guarded: Bench, bare: Bench): readonly string[] {
  const [more, less] = [guarded, bare].map(({ provider }) => provider.requests()[0]!.body)
  const added = Object.keys(more!).filter((name) => !(name in less!))
  assert.deepEqual(
    added.filter((name) => !LISTED_ADDITIONS.includes(name)),
    [],
  )
  assert.deepEqual(Object.fromEntries(Object.entries(more!).filter(([name]) => !added.includes(name))), less)
  return added
}

function bodiesOf({ provider }: Bench): unknown {
  return scrubbed(provider.requests().map(({ body }) => body))
}

function headersOf({ provider }: Bench): object {
  const { host: _host, 'content-length': _length, ...headers } = provider.requests()[0]!.headers
  return headers
}

/** Members that differ between any two calls. */
const VOLATILE = /^(?:id|.*_id|.*Id|created|created_at|timestamp|date|host|performance|.*Ms|.*headers|x-request-id)$/i
const IDENTITY = /\b(?:chatcmpl-|resp_|msg_|fc_|call_|req_)[\w-]+|127\.0\.0\.1:\d+/g

/** The value without ids and times, as plain data. */
function scrubbed(value: unknown): unknown {
  const text = JSON.stringify(value, (key, member: unknown) => {
    if (VOLATILE.test(key)) return undefined
    // A stream that is asked for usage says `null` in each chunk before the last; the types of chunks allow both.
    return key === 'usage' && member === null ? undefined : member
  })
  return text === undefined ? undefined : JSON.parse(text.replaceAll(IDENTITY, 'id'))
}

function described(error: unknown): object {
  const { name, message, status, statusCode, code, isRetryable } = error as Record<string, unknown>
  return {
    class: (error as Error).constructor.name,
    name,
    message: String(message).replaceAll(IDENTITY, 'id'),
    status,
    statusCode,
    code,
    isRetryable,
  }
}
