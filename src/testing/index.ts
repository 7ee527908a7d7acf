// For tests: the law that every store keeps, the scenarios that every integration passes, a provider that
// answers over real HTTP, and a store that fails on demand.

import '../lib/runtime.ts'

export { faultyStore, seededRandom } from './faulty-store.ts'
export { testIntegration } from './integration-suite.ts'
export { scriptOf, startProvider } from './provider.ts'
export { settableClock } from './store-bench.ts'
export { testStore } from './store-suite.ts'

export type { Fault, FaultPlan, FaultyStore } from './faulty-store.ts'
export type { CallOptions, Calls, IntegrationAdapter, IntegrationSuiteOptions, Site, SuiteTools } from './integration-suite.ts'
export type { MediaAnswer, MediaRequest } from './provider-media.ts'
export type { Bill, BillLine, ProviderAnswer, ProviderOptions, ProviderRequest, SimulatedProvider } from './provider.ts'
export type { SettableClock, StoreAccess, StoreUnderTest } from './store-bench.ts'
export type { RegisterTest, StoreSuiteOptions } from './store-suite.ts'
