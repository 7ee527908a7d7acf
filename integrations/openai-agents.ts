// The OpenAI Agents SDK: a runner whose models are held before they are called, whose tools ask before they run, and
// whose handoffs move money, for every agent that a run reaches.

import '../src/lib/runtime.ts'

export { findRefusal } from '../src/lib/errors.ts'
export type { ToolAmounts } from './common/guard-function.ts'
export type { AnyAgent, GuardAgentOptions } from './openai-agents/agent.ts'
export type { AgentHandoff, AgentHandoffs } from './openai-agents/handoffs.ts'
export { guardModel, guardModelProvider } from './openai-agents/model.ts'
export type { GuardModelOptions } from './openai-agents/model.ts'
export { guardAgent, guardRunner } from './openai-agents/runner.ts'
export type { GuardRunnerOptions } from './openai-agents/runner.ts'
export { approvalOf } from './openai-agents/tools.ts'
export type { ApprovalRequest } from './openai-agents/tools.ts'
export { wrapOpenAI } from './openai.ts'
export type { GuardOptions, WrapOpenAIOptions } from './openai.ts'
