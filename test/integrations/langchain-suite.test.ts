// The law of integrations for LangChain: agents on both wire formats, the middleware alone, and models by themselves.

import { test } from 'vitest'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import type { Waiver } from '../../src/testing/store-suite.ts'
import { langChainAdapter } from './langchain-adapters.ts'

const FORMS = [
  ['langchain agent, chat', { wire: 'chat', by: 'agent' }],
  ['langchain agent, responses', { wire: 'responses', by: 'agent' }],
  ['langchain middleware, chat', { wire: 'chat', by: 'middleware' }],
  ['langchain middleware, responses', { wire: 'responses', by: 'middleware' }],
  ['langchain model, chat', { wire: 'chat', by: 'model' }],
  ['langchain model, responses', { wire: 'responses', by: 'model' }],
] as const

const WRAPPED =
  'LangChain wraps each error that passes a middleware in a MiddlewareError, with the original as its cause; guardAgent unwraps it'
const WAIVERS: Readonly<Record<string, readonly Waiver[]>> = {
  model: [],
  middleware: ['the error of a provider is the same', 'the error of a broken connection is the same'].map((claim) => ({
    test: `transparency: ${claim}`,
    reason: WRAPPED,
  })),
  agent: [],
}

for (const [name, form] of FORMS) testIntegration(test.concurrent, { ...langChainAdapter(name, form), waive: WAIVERS[form.by]! })
