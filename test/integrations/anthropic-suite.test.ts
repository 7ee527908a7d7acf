// The law of integrations on the wire of Anthropic: the SDK, the AI SDK and LangChain.

import { test } from 'vitest'
import { testIntegration, type IntegrationSuiteOptions } from '../../src/testing/integration-suite.ts'
import { aiSdkCalls } from './adapters.ts'
import { aiSdkModel, anthropicOn, helperCalls, langChainModel, runnerCalls } from './anthropic-adapters.ts'
import { modelCalls } from './langchain-adapters.ts'

const SDK = { streamRefusal: 'error', drains: true, leavesByBreak: true } as const
const AI_SDK = { streamRefusal: 'scope', drains: true, leavesByBreak: false } as const

// It would warn of each call that it does not know the model of the suite.
Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false })

const OWN_CAP = 'the AI SDK gives a request without a cap one of its own, and the middleware puts its cap in place of that'

const ADAPTERS: readonly IntegrationSuiteOptions[] = [
  { ...SDK, name: 'anthropic tool runner', connect: (site) => runnerCalls(anthropicOn(site)) },
  { ...SDK, name: 'anthropic helpers', connect: (site) => helperCalls(anthropicOn(site), site) },
  {
    ...AI_SDK,
    name: 'ai sdk on anthropic, guardFetch',
    connect: (site) => aiSdkCalls(site, { approval: false, by: 'guard' }, (options) => aiSdkModel(site, options, false)),
  },
  {
    ...AI_SDK,
    name: 'ai sdk on anthropic, middleware and guardFetch',
    connect: (site) => aiSdkCalls(site, { approval: true, by: 'middleware' }, (options) => aiSdkModel(site, options, true)),
    waive: [
      { test: 'transparency: a request without a cap differs by the cap only', reason: OWN_CAP },
      { test: 'transparency: the request of a stream differs by a cap and by asking for usage only', reason: OWN_CAP },
    ],
  },
  {
    ...SDK,
    name: 'langchain on anthropic, guardFetch',
    withoutTools: 'a model runs no tools; an agent does',
    connect: (site) => modelCalls((options) => langChainModel(site, options)),
  },
]

for (const adapter of ADAPTERS) testIntegration(test.concurrent, adapter)
