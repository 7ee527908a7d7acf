// A graph that runs elsewhere: what it spends is spent there. Its call is counted at the boundary, as a node or in a tool.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HumanMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { Annotation, END, START, StateGraph } from '@langchain/langgraph'
import { RemoteGraph } from '@langchain/langgraph/remote'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { findRefusal, guardGraph, guardTools } from '../../integrations/langgraph.ts'
import { errorOf } from '../../src/testing/integration-bench.ts'
import { calling, openGraphKernel, sentOn, toolAnswers, toolGraph } from './langgraph-bench.ts'

const State = Annotation.Root({ sum: Annotation<number>({ reducer: (_, right) => right, default: () => 0 }) })
const LIMITS = { budgets: { acme: { sends: 100 }, 'acme/run': { sends: 2 } } }

/** A server of LangGraph, as far as a remote graph asks it: it answers each run with this state, or this status. */
async function withServer(run: (remote: RemoteGraph, asked: () => number) => Promise<void>, status = 200): Promise<void> {
  let asked = 0
  const server = createServer((request, response) => {
    request.resume()
    request.on('end', () => {
      asked += 1
      if (status !== 200) return response.writeHead(status, { 'content-type': 'application/json' }).end('{}')
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      return response.end(`event: values\ndata: ${JSON.stringify({ sum: asked })}\n\n`)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    await run(new RemoteGraph({ graphId: 'harbour', url }), () => asked)
  } finally {
    server.close()
  }
}

const around = (remote: RemoteGraph) =>
  new StateGraph(State)
    .addNode('there', remote as never)
    .addEdge(START, 'there')
    .addEdge('there', END)
    .compile()

describe('a remote graph', () => {
  test('as a node is one action for each call, with the counters that are given for it, and refused before its HTTP', () =>
    withServer(async (remote, asked) => {
      const { scope, kernel } = await openGraphKernel(LIMITS)
      const graph = guardGraph(around(remote), scope, { remotes: { there: { sends: 1 } } })
      expect(await graph.invoke({})).toEqual({ sum: 1 })
      expect(await graph.invoke({})).toEqual({ sum: 2 })
      const refusal = findRefusal(await errorOf(() => graph.invoke({})))
      expect(refusal).toMatchObject({ code: 'ERR_BUDGET_EXCEEDED', details: { resource: 'harbour' } })
      expect([asked(), await sentOn(kernel)]).toEqual([2, 2])
    }))

  test('that fails is counted: it may have run', () =>
    withServer(async (remote) => {
      const { scope, kernel } = await openGraphKernel(LIMITS)
      const graph = guardGraph(around(remote), scope, { remotes: { there: { sends: 1 } } })
      expect(await errorOf(() => graph.invoke({}))).toBeInstanceOf(Error)
      expect(await sentOn(kernel)).toBe(1)
    }, 422))

  test('without counters is refused all the same once its run is over', () =>
    withServer(async (remote, asked) => {
      const { scope, kernel } = await openGraphKernel({ budgets: { acme: { calls: 1 }, 'acme/run': { calls: 1 } } })
      const graph = guardGraph(around(remote), scope)
      await scope.enter(async () => {
        await graph.invoke({})
        await scope.run({ kind: 'custom', resource: 'call', worst: { calls: 1 } }, async () => 1)
        await errorOf(() => scope.run({ kind: 'custom', resource: 'call', worst: { calls: 1 } }, async () => 1))
        expect(findRefusal(await errorOf(() => graph.invoke({})))?.details.latched).toBe(true)
      })
      expect(asked()).toBe(1)
      await kernel.close()
    }))

  test('that is misspelt in `remotes` is a TypeError', () =>
    withServer(async (remote) => {
      const { scope } = await openGraphKernel(LIMITS)
      expect(() => guardGraph(around(remote), scope, { remotes: { here: { sends: 1 } } })).toThrow('`remotes.here`: this graph has no node')
    }))

  test('in a tool is what the tool counts as: each call is answered, the third with what to do', () =>
    withServer(async (remote, asked) => {
      const { scope, kernel } = await openGraphKernel(LIMITS)
      const ask = tool(async () => JSON.stringify(await remote.invoke({})), {
        name: 'ask_harbour',
        description: 'asks',
        schema: z.object({}),
      })
      const graph = guardGraph(toolGraph(guardTools([ask], scope, { amounts: { ask_harbour: { sends: 1 } } })), scope)
      const call = ['ask_harbour', {}] as const
      const answers = toolAnswers(await graph.invoke({ messages: [new HumanMessage('go'), calling(call, call, call)] }))
      expect(answers.filter((answer) => answer.startsWith('success'))).toHaveLength(2)
      expect(answers.filter((answer) => answer.startsWith('error'))).toHaveLength(1)
      expect([asked(), await sentOn(kernel)]).toEqual([2, 2])
    }))
})
