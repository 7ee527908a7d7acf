// An orchestrator hands work to an analyst, with half a dollar and leave to read but not to write. What is not
// spent comes back. Run it: node examples/handoff.ts

import { findRefusal, formatUsd, memoryStore, openKernel, parseHandoff } from '../src/index.ts'

await using kernel = await openKernel({
  store: memoryStore(),
  budgets: { acme: { usd: 2 } },
  rules: [{ effect: 'allow', tool: ['read_sales', 'write_report'] }],
})
const orchestrator = kernel.scope({ agent: 'orchestrator', task: 'report', budget: 'acme' })

const handoff = await orchestrator.handoff({
  to: 'analyst',
  budget: { usd: 0.5 },
  rules: [{ effect: 'allow', tool: 'read_sales' }],
  instruction: 'Analyze monthly sales by product category',
  context: 'Using the export of November.\nPrices are in dollars.',
  expectedOutput: 'JSON with category, revenue, growth_pct',
})
console.log(handoff.message, '\n')
console.log('The receiver reads:', parseHandoff(handoff.message)?.instruction)

// The analyst's tools cost money; here each call costs 20 cents.
for (const tool of ['read_sales', 'write_report', 'read_sales', 'read_sales']) {
  try {
    await handoff.scope.run({ kind: 'tool', resource: tool, worst: { usd: 200_000_000 } }, async () => `${tool} ran`)
    console.log(`${tool}: ran for $0.20`)
  } catch (error) {
    console.log(`${tool}: ${findRefusal(error)?.toModelMessage() ?? String(error)}`)
  }
}

const { spent, returned } = await handoff.close()
console.log(`\nThe handoff spent ${formatUsd(spent['usd']!)}; ${formatUsd(returned['usd']!)} went back.`)
const [acme] = await kernel.budgets('acme')
console.log(`acme: spent ${formatUsd(acme!.spent)} of ${formatUsd(acme!.limit)}, free ${formatUsd(acme!.free)}.`)
process.exitCode = spent['usd'] === 400_000_000 && acme!.free === 1_600_000_000 ? 0 : 1
