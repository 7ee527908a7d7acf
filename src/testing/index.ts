// For tests: the law that every store keeps, the scenarios that every integration passes, a provider that
// answers over real HTTP, and a store that fails on demand.

import '../lib/runtime.ts'

export { startProvider, scriptOf } from './provider.ts'

export type { Bill, BillLine, ProviderAnswer, ProviderOptions, ProviderRequest, SimulatedProvider } from './provider.ts'
