// The public surface, on one screen. Stores and integrations have entries of their own.

import './lib/runtime.ts'

export { openKernel } from './kernel/open-kernel.ts'
export { sharedKernel } from './kernel/shared-kernel.ts'
export { readPrices } from './kernel/read-prices.ts'
export { verifyAudit } from './audit/verify.ts'
export { readBudgets } from './budget/report.ts'
export { readForecast } from './budget/forecast.ts'
export { memoryStore } from './stores/memory.ts'
export { fileStore } from './stores/file.ts'
export { Blackboard } from './blackboard/blackboard.ts'
export { formatHandoff, parseHandoff } from './handoff/message.ts'
export { AuthGuardian } from './guardian/auth-guardian.ts'
export { HoldfastError, Refusal, findRefusal } from './lib/errors.ts'
export { canonicalJson } from './lib/canonical-json.ts'
export { formatUsd, toNanoUsd } from './lib/amounts.ts'
export { CLAIMS } from './kernel/claims.ts'

export type { Kernel, KernelOptions } from './kernel/open-kernel.ts'
export type { SharedKernelOptions } from './kernel/shared-kernel.ts'
export type { Evidence, GivenAmounts, LimitEvidence, Operator } from './kernel/operator.ts'
export type { KernelEvent } from './kernel/events.ts'
export type { StopTarget } from './kernel/stops.ts'
export type { Claim } from './kernel/claims.ts'
export type { ChainVerdict } from './audit/verify.ts'
export type { BudgetDeclaration } from './budget/declaration.ts'
export type { WindowDeclaration, WindowUnit } from './budget/windows/window.ts'
export type { BudgetLine, RaisedLine } from './budget/report.ts'
export type { ForecastLine } from './budget/forecast.ts'
export type { LimitChange } from './budget/operator.ts'
export type { BoardTransaction, Proposal } from './blackboard/blackboard.ts'
export type { AbsentEntry, BoardEntry, PastWrite } from './blackboard/entry.ts'
export type { NamespaceAccess } from './blackboard/namespaces.ts'
export type { HandoffMessage } from './handoff/message.ts'
export type { Approval } from './guardian/auth-guardian.ts'
export type { PriceOverride } from './metering/prices.ts'
export type { Capabilities, Store } from './stores/store.ts'
export type { FileStoreOptions } from './stores/file.ts'
export type { MemoryStoreOptions } from './stores/memory.ts'
export type { Amounts } from './lib/amounts.ts'
export type {
  BudgetFacts,
  BudgetHolder,
  ConflictFacts,
  ErrorCode,
  LimitToPass,
  RefusalCode,
  RefusalDetails,
  StopFacts,
} from './lib/errors.ts'
export type { Json } from './lib/canonical-json.ts'
export type { Action, OutputBound, ProposedAction } from './waist/action.ts'
export type { Add, Batch, Check, SetKey } from './waist/batch.ts'
export type { Caps, Denial, Gate, Verdict } from './waist/gate.ts'
export type { Answer, Hold, Settlement } from './waist/hold.ts'
export type { Earmark, Handoff, HandoffClosing, HandoffRequest } from './waist/handoff.ts'
export type { Once, OnceOptions } from './waist/once.ts'
export type { Constraint, Rule, StandardSchema } from './waist/rule.ts'
export type { BeginOptions, Scope, ScopeEvent, ScopeIdentity, ScopeSource } from './waist/scope.ts'
