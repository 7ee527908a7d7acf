// Embeddings of LangChain, which fire no callbacks and drop their usage: held before they are sent, also under the
// vector stores, retrievers and stores that they are given to.

import { Document } from '@langchain/core/documents'
import { Embeddings, type EmbeddingsParams } from '@langchain/core/embeddings'
import { FakeVectorStore } from '@langchain/core/utils/testing'
import { InMemoryStore } from '@langchain/langgraph'
import { OpenAIEmbeddings } from '@langchain/openai'
import { describe, expect, test } from 'vitest'
import { guardEmbeddings } from '../../integrations/langchain.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { findRefusal } from '../../src/lib/errors.ts'
import { errorOf, INPUT_PRICE, SUITE_MODEL } from '../../src/testing/integration-bench.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { endsOf, onBench } from './bench.ts'

/** Embeddings of somebody else. */
class OtherEmbeddings extends Embeddings {
  /** Any with a price will do. */
  readonly model = SUITE_MODEL
  /** What each attempt does before it answers. */
  readonly attempt: () => void
  attempts = 0
  constructor(attempt: () => void = () => undefined, params: EmbeddingsParams = { maxRetries: 3 }) {
    super(params)
    this.attempt = attempt
  }
  override embedDocuments(texts: string[]): Promise<number[][]> {
    return this.caller.call(async () => {
      this.attempts += 1
      this.attempt()
      return texts.map((text) => [text.length, 1])
    })
  }
  override async embedQuery(text: string): Promise<number[]> {
    return (await this.embedDocuments([text]))[0]!
  }
}

const failing = (status?: number) => () => {
  throw Object.assign(new Error('it failed'), status === undefined ? {} : { status })
}
const SHIPS = [new Document({ pageContent: 'nine ships' }), new Document({ pageContent: 'a tenth one' })]

describe('embeddings whose HTTP cannot be seen', () => {
  test('are held for the bytes of their texts, and charged at that, since nothing is reported', () =>
    onBench({}, async (bench) => {
      const embeddings = guardEmbeddings(new OtherEmbeddings(), bench.scope)
      expect(await embeddings.embedDocuments(['abc', 'ünï', ''])).toHaveLength(3)
      // 3 bytes, 5 bytes, and an empty text.
      expect(bench.records('intent')).toMatchObject([{ resource: SUITE_MODEL, amounts: { usd: 9 * INPUT_PRICE } }])
      expect(await endsOf(bench)).toEqual(['charged'])
      expect(await bench.spent()).toBe(9 * INPUT_PRICE)
    }))

  test('are refused before they are called when their texts do not fit', () =>
    onBench({ limit: 100 }, async (bench) => {
      const given = new OtherEmbeddings()
      const error = await errorOf(() => guardEmbeddings(given, bench.scope).embedQuery('six bytes'))
      expect(findRefusal(error)?.code).toBe('ERR_BUDGET_EXCEEDED')
      expect(given.attempts).toBe(0)
    }))

  test('are refused without a price, which `model` may name', () =>
    onBench({}, async (bench) => {
      const given = Object.assign(new OtherEmbeddings(), { model: 'nobody-knows-it' })
      const error = await errorOf(() => guardEmbeddings(given, bench.scope).embedQuery('hi'))
      expect(findRefusal(error)?.message).toContain('nobody-knows-it')
      expect(await guardEmbeddings(given, bench.scope, { model: SUITE_MODEL }).embedQuery('hi')).toEqual([2, 1])
    }))

  test.each([
    [undefined, 'charged'],
    [500, 'charged'],
    [400, 'released'],
  ] as const)('that fail are tried once under their hold, which ends by what they failed with (%s)', (status, end) =>
    onBench({}, async (bench) => {
      let attempts = 0
      const given = new OtherEmbeddings(() => {
        attempts += 1
        failing(status)()
      })
      expect(String(await errorOf(() => guardEmbeddings(given, bench.scope).embedQuery('hi')))).toContain('it failed')
      expect([attempts, ...(await endsOf(bench))]).toEqual([1, end])
    }),
  )

  test('stay as they were given', () =>
    onBench({}, async (bench) => {
      const given = new OtherEmbeddings()
      guardEmbeddings(given, bench.scope)
      expect(await given.embedQuery('hi')).toEqual([2, 1])
      expect(bench.records('intent')).toEqual([])
    }))
})

describe('what is built on guarded embeddings', () => {
  test('is on the budget: a vector store, and its retriever', () =>
    onBench({}, async (bench) => {
      const store = await FakeVectorStore.fromDocuments(SHIPS, guardEmbeddings(new OtherEmbeddings(), bench.scope))
      const [first] = await store.asRetriever(1).invoke('nine ships')
      expect(first?.pageContent).toBe('nine ships')
      expect(await endsOf(bench)).toEqual(['charged', 'charged'])
    }))

  test('is refused when the budget is used up: a retriever', () =>
    onBench({ limit: (10 + 11) * INPUT_PRICE }, async (bench) => {
      const store = await FakeVectorStore.fromDocuments(SHIPS, guardEmbeddings(new OtherEmbeddings(), bench.scope))
      expect(findRefusal(await errorOf(() => store.asRetriever(1).invoke('nine ships')))?.code).toBe('ERR_BUDGET_EXCEEDED')
    }))

  test('is on the budget: a store of LangGraph with an index, which embeds what is put and what is searched for', () =>
    onBench({}, async (bench) => {
      const embeddings = guardEmbeddings(new OtherEmbeddings(), bench.scope)
      const store = new InMemoryStore({ index: { dims: 2, embeddings, fields: ['text'] } })
      await store.put(['ships'], 'nine', { text: 'nine ships' })
      const found = await store.search(['ships'], { query: 'nine' })
      expect(found.map(({ key }) => key)).toEqual(['nine'])
      expect(await endsOf(bench)).toEqual(['charged', 'charged'])
    }))

  test('is refused when the budget is used up: a search in a store of LangGraph', () =>
    onBench({ limit: 10 * INPUT_PRICE }, async (bench) => {
      const embeddings = guardEmbeddings(new OtherEmbeddings(), bench.scope)
      const store = new InMemoryStore({ index: { dims: 2, embeddings, fields: ['text'] } })
      await store.put(['ships'], 'nine', { text: 'nine ships' })
      expect(findRefusal(await errorOf(() => store.search(['ships'], { query: 'nine' })))?.code).toBe('ERR_BUDGET_EXCEEDED')
    }))
})

describe('OpenAIEmbeddings', () => {
  const openAi = (baseURL: string, more: object = {}) =>
    new OpenAIEmbeddings({ model: 'text-embedding-3-small', apiKey: 'test', maxRetries: 0, configuration: { baseURL, ...more } })

  test('that do not fit are refused before their HTTP', () =>
    onBench({ limit: 1 }, async (bench) => {
      const embeddings = guardEmbeddings(openAi(bench.provider.baseURL), bench.scope)
      for (const call of [() => embeddings.embedQuery('nine ships'), () => embeddings.embedDocuments(['nine', 'ships'])])
        expect(findRefusal(await errorOf(call))).toBeDefined()
      expect(bench.provider.bill().requests).toBe(0)
    }))

  test('are sent in the context of their own call, though two wait for each other', () =>
    onBench({}, async (bench) => {
      const agents = new Set<unknown>()
      const answer: typeof fetch = async (_input, init) => {
        agents.add((ambient().scope as Scope | undefined)?.agent)
        const { input } = JSON.parse(init?.body as string) as { input: string | string[] }
        const data = [input].flat().map((_, index) => ({ object: 'embedding', index, embedding: [1, 2] }))
        return Response.json({ object: 'list', model: 'text-embedding-3-small', data, usage: { prompt_tokens: 4, total_tokens: 4 } })
      }
      const given = openAi(bench.provider.baseURL, { fetch: answer })
      const embeddings = guardEmbeddings(given, undefined, { passthrough: ['/embeddings'] })
      const named = ['ann', 'bob', 'cay', 'dan']
      const scopes = named.map((agent) => bench.kernel.scope({ agent, task: 'embed', budget: 'suite/run' }))
      await Promise.all(scopes.map((scope) => scope.enter(() => embeddings.embedDocuments(['nine ships', 'a tenth one']))))
      expect(agents).toEqual(new Set(named))
    }))

  test('that are none are a TypeError', () => {
    expect(() => guardEmbeddings({ embedQuery: () => [1] })).toThrow(TypeError)
  })
})
