// The Vercel AI SDK: models that hold each call, tools behind the gates, and the settings of `generateText`,
// `streamText` and agents with both. Works above the transport guard (`createOpenAI({ fetch: guardFetch(scope) })`) or
// alone; with both, the guard settles what it claimed and this layer compares.

import '../src/lib/runtime.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { holdfastEmbeddingMiddleware } from './ai-sdk/embedding.ts'
export type { EmbeddingOptions } from './ai-sdk/embedding.ts'
export { holdfastImageMiddleware } from './ai-sdk/image.ts'
export type { ImageOptions } from './ai-sdk/image.ts'
export { holdfastMiddleware } from './ai-sdk/language.ts'
export type { CachedAnswer, MiddlewareOptions } from './ai-sdk/language.ts'
export { guardProvider } from './ai-sdk/provider.ts'
export type { ModelOptions } from './ai-sdk/models.ts'
export { guardSettings } from './ai-sdk/settings.ts'
export type { GuardableSettings, SettingsOptions } from './ai-sdk/settings.ts'
export { countCalls } from './ai-sdk/telemetry.ts'
export { guardTools, toolApproval } from './ai-sdk/tools.ts'
export type { ApprovalFunction, ApprovalOptions } from './ai-sdk/tools.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
export type { ToolAmounts } from './common/guard-function.ts'
