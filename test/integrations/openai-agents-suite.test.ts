// The law of integrations for the OpenAI Agents SDK: guarded runners, and their parts, on both wire formats.

import { test } from 'vitest'
import { testIntegration } from '../../src/testing/integration-suite.ts'
import { agentsAdapter } from './openai-agents-adapters.ts'

const FORMS = [
  ['agents runner, responses', { wire: 'responses', by: 'runner', wrapped: false }],
  ['agents runner, chat, wrapped client', { wire: 'chat', by: 'runner', wrapped: true }],
  ['agents parts, responses, wrapped client', { wire: 'responses', by: 'parts', wrapped: true }],
  ['agents parts, chat, wrapped client', { wire: 'chat', by: 'parts', wrapped: true }],
] as const

for (const [name, form] of FORMS) testIntegration(test.concurrent, agentsAdapter(name, form))
