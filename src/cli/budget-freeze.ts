// `holdfast budget freeze` and `unfreeze`: for who must stop now.

import type { Command } from 'commander'
import { asOperator, evidenceOf, parseBudget, withEvidence } from './as-operator.ts'
import { reports } from './output.ts'
import { visible } from './text.ts'

/** What `holdfast budget freeze --json` and `unfreeze --json` print. */
export interface FreezeJson {
  readonly budget: string
  readonly frozen: boolean
  /** Of `unfreeze`: why it was frozen; absent when it was not. */
  readonly was?: string
}

/** Adds the commands to `holdfast budget`. */
export function addBudgetFreeze(parent: Command): void {
  const freeze = withEvidence(
    parent
      .command('freeze')
      .description('let nothing be taken any more from a budget and those below it')
      .argument('<path>', 'the budget', parseBudget),
  )
  freeze.addHelpText(
    'after',
    `
Calls that run go on to their end; the next one is refused. Processes that have leased some of it give it back.
A declaration with a higher revision does not end it, as it does the freeze of an overrun.

Example:
  $ holdfast budget freeze acme --reason "odd calls since noon"`,
  )
  reports(freeze, async (place) => {
    const budget = freeze.processedArgs[0] as string
    await asOperator(place, (kernel) => kernel.freeze(budget, evidenceOf(freeze)))
    return { json: { budget, frozen: true } satisfies FreezeJson, text: () => `${budget} is frozen.\n` }
  })

  const unfreeze = withEvidence(
    parent.command('unfreeze').description('end a freeze, whoever made it').argument('<path>', 'the budget', parseBudget),
  )
  unfreeze.addHelpText(
    'after',
    `
After an overrun, mend the price or the bound first: what broke it once breaks it again.
What does not balance stays frozen: holdfast budget recover

Example:
  $ holdfast budget unfreeze acme --reason "price list corrected"`,
  )
  reports(unfreeze, async (place) => {
    const budget = unfreeze.processedArgs[0] as string
    const was = await asOperator(place, (kernel) => kernel.unfreeze(budget, evidenceOf(unfreeze)))
    return {
      json: { budget, frozen: false, ...(was === undefined ? {} : { was }) } satisfies FreezeJson,
      text: () => (was === undefined ? `${budget} was not frozen.\n` : `${budget} goes on. It was frozen: ${visible(was)}\n`),
    }
  })
}
