// The law of integrations, as tests: the same scenarios for every framework, over real HTTP, on a provider that
// keeps the bill. It knows no runner and no framework; what money depends on, the safety chapter, cannot be
// waived. An adapter is what a user of the framework would write:
//
//   testIntegration(test, { name: 'openai chat', streamRefusal: 'error', drains: true, connect: ({ scope, baseURL }) => … })

import { runCase, type IntegrationAdapter, type IntegrationCase } from './integration-bench.ts'
import { faultCases } from './integration-faults.ts'
import { moneyCases } from './integration-money.ts'
import { parallelCases } from './integration-parallel.ts'
import { toolCases } from './integration-tools.ts'
import { transparencyCases } from './integration-transparency.ts'
import type { RegisterTest, Waiver } from './store-suite.ts'

export type { CallOptions, Calls, IntegrationAdapter, Site, SuiteTools } from './integration-bench.ts'

/** Options of {@link testIntegration}. */
export interface IntegrationSuiteOptions extends IntegrationAdapter {
  /** @default none */
  readonly waive?: readonly Waiver[]
}

const CASES: readonly IntegrationCase[] = [...moneyCases, ...faultCases, ...toolCases, ...parallelCases, ...transparencyCases]

/**
 * Registers the tests of the integration contract. Each one has a provider and a kernel of its own, so they may
 * run at the same time.
 *
 * @throws {TypeError} For a waiver of an unknown test, of one in the safety chapter, or without a reason.
 */
export function testIntegration(test: RegisterTest, options: IntegrationSuiteOptions): void {
  const reasons = new Map((options.waive ?? []).map((waiver) => [waiver.test, assertWaiver(waiver)]))
  for (const integrationCase of CASES) {
    const reason = reasons.get(integrationCase.name) ?? (integrationCase.tools === true ? options.withoutTools : undefined)
    if (reason === undefined) test(`${options.name} ${integrationCase.name}`, () => runCase(integrationCase, options))
    // A waived test stays in the report, with its reason.
    else test(`${options.name} ${integrationCase.name} (waived: ${reason})`, async () => {})
  }
}

function assertWaiver({ test, reason }: Waiver): string {
  if (!CASES.some(({ name }) => name === test)) throw new TypeError(`The integration suite has no test ${JSON.stringify(test)} to waive.`)
  if (test.startsWith('safety:')) throw new TypeError(`${JSON.stringify(test)} is about safety and cannot be waived.`)
  if (reason.trim() === '') throw new TypeError(`The waiver of ${JSON.stringify(test)} needs a reason.`)
  return reason
}
