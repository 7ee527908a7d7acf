// LangGraph: tools behind the gates (an `ask` is an interrupt, an effect happens once), graphs whose nodes cannot
// lose a refusal, and handoffs between agents that move their budget. Models are guarded at their HTTP:
// `new ChatOpenAI({ configuration: { fetch: guardFetch() } })`, or `guardModel` of `holdfast/langchain`; a chat model
// that is not is refused in a guarded graph.

import '../src/lib/runtime.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { guardGraph } from './langgraph/graph.ts'
export { guardHandoffTool } from './langgraph/handoff.ts'
export { guardTools } from './langgraph/tools.ts'
export { guardFetch } from './transport/guard-fetch.ts'

export type { ToolAmounts } from './common/guard-function.ts'
export type { ApprovalQuestion } from './langgraph/approval.ts'
export type { GuardGraphOptions } from './langgraph/graph.ts'
export type { ObserverOptions } from './langchain/observer.ts'
export type { GraphHandoff, HandoffToolOptions } from './langgraph/handoff.ts'
export type { GuardToolsOptions } from './langgraph/tools.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
