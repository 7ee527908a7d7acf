// What the compiler knows of a guarded agent is what it knows of one without holdfast.

import { AIMessage } from '@langchain/core/messages'
import { createAgent, createMiddleware, modelRetryMiddleware, providerStrategy, tool, toolStrategy } from 'langchain'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { guardAgent, holdfastMiddleware } from '../../integrations/langchain.ts'
import { chatModel } from './langchain-adapters.ts'

const model = chatModel({ baseURL: 'http://localhost', maxRetries: 0 }, {})
const ships = z.object({ ships: z.number() })
const pier = z.object({ pier: z.string() })
const json = { type: 'object', properties: { ships: { type: 'number' } } } as const
const stateSchema = z.object({ tide: z.string() })
const contextSchema = z.object({ tenant: z.string() })

/** What an agent answers. */
type Answer<A extends { invoke(...args: never[]): Promise<unknown> }> = Awaited<ReturnType<A['invoke']>>

describe('an agent of guardAgent is known to the compiler like one of createAgent', () => {
  test('by its response format', () => {
    const bare = {
      none: createAgent({ model }),
      zod: createAgent({ model, responseFormat: ships }),
      several: createAgent({ model, responseFormat: [ships, pier] }),
      tool: createAgent({ model, responseFormat: toolStrategy(ships) }),
      tools: createAgent({ model, responseFormat: toolStrategy([ships, pier]) }),
      provider: createAgent({ model, responseFormat: providerStrategy(ships) }),
    }
    const guarded = {
      none: guardAgent({ model }),
      zod: guardAgent({ model, responseFormat: ships }),
      several: guardAgent({ model, responseFormat: [ships, pier] }),
      tool: guardAgent({ model, responseFormat: toolStrategy(ships) }),
      tools: guardAgent({ model, responseFormat: toolStrategy([ships, pier]) }),
      provider: guardAgent({ model, responseFormat: providerStrategy(ships) }),
    }
    expectTypeOf<Answer<typeof guarded.none>>().toEqualTypeOf<Answer<typeof bare.none>>()
    expectTypeOf<Answer<typeof guarded.zod>>().toEqualTypeOf<Answer<typeof bare.zod>>()
    expectTypeOf<Answer<typeof guarded.tool>>().toEqualTypeOf<Answer<typeof bare.tool>>()
    expectTypeOf<Answer<typeof guarded.tools>>().toEqualTypeOf<Answer<typeof bare.tools>>()
    expectTypeOf<Answer<typeof guarded.provider>>().toEqualTypeOf<Answer<typeof bare.provider>>()
    expectTypeOf<Answer<typeof guarded.several>['structuredResponse']>().toEqualTypeOf<{ ships: number } | { pier: string }>()
    expectTypeOf<Answer<typeof guarded.zod>['structuredResponse']>().toEqualTypeOf<{ ships: number }>()
    // @ts-expect-error There is none.
    expectTypeOf<Answer<typeof guarded.zod>['structuredResponse']['boats']>()
    expect(Object.keys(guarded)).toEqual(Object.keys(bare))
  })

  test('by a response format of JSON Schema, of which nothing is known', () => {
    const guarded = guardAgent({ model, responseFormat: json })
    expectTypeOf<Answer<typeof guarded>['structuredResponse']>().toExtend<Record<string, unknown>>()
    expect(guarded).toBeDefined()
  })

  test('by its state, its context and its tools', () => {
    const add = tool(async ({ a }) => a, { name: 'add', description: 'adds', schema: z.object({ a: z.number() }) })
    const bare = createAgent({ model, tools: [add], stateSchema, contextSchema })
    const guarded = guardAgent({ model, tools: [add], stateSchema, contextSchema })
    expectTypeOf<Parameters<typeof guarded.invoke>>().toEqualTypeOf<Parameters<typeof bare.invoke>>()
    expectTypeOf<Answer<typeof guarded>>().toEqualTypeOf<Answer<typeof bare>>()
    expectTypeOf<(typeof guarded)['~agentTypes']['Tools']>().toEqualTypeOf<(typeof bare)['~agentTypes']['Tools']>()
    const input = { messages: [new AIMessage('x')], tide: 'high' }
    const calls = [
      () => guarded.invoke(input, { context: { tenant: 'acme' } }),
      // @ts-expect-error The context has another member.
      () => guarded.invoke(input, { context: { tenat: 'acme' } }),
      // @ts-expect-error The state has another type.
      () => guarded.invoke({ ...input, tide: 7 }),
    ]
    expect(calls).toHaveLength(3)
  })

  test('by its middleware, which may have a state of its own', () => {
    const counting = createMiddleware({ name: 'counting', stateSchema: z.object({ turns: z.number() }) })
    const bare = createAgent({ model, middleware: [counting] })
    const guarded = guardAgent({ model, middleware: [counting, modelRetryMiddleware()] })
    expectTypeOf<Answer<typeof guarded>['turns']>().toEqualTypeOf<Answer<typeof bare>['turns']>()
    const listed = guardAgent({ model, middleware: [holdfastMiddleware(), counting] })
    expectTypeOf<Answer<typeof listed>['turns']>().toEqualTypeOf<number>()
  })

  test('by options that do not exist, or are none', () => {
    const wrong = [
      // @ts-expect-error A slip of the pen.
      () => guardAgent({ model, responseFormatt: ships }),
      // @ts-expect-error No format.
      () => guardAgent({ model, responseFormat: 42 }),
      // @ts-expect-error No schema.
      () => guardAgent({ model, stateSchema: 'nonsense' }),
      // @ts-expect-error No option of the middleware.
      () => guardAgent({ model, holdfast: { toolAmount: {} } }),
      // @ts-expect-error No model.
      () => guardAgent({}),
    ]
    expect(wrong).toHaveLength(5)
  })
})
