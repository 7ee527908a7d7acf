// What an operator does while agents work: other limits, a freeze, a look, a correction from the bill.

import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { attempt } from './attempt.ts'
import type { Call } from './books.ts'
import type { Dice } from './dice.ts'
import type { Process, Site } from './site.ts'

const EVIDENCE = { by: 'operator', reason: 'the simulation wants it' } as const

/** Does one thing that operators do. */
export async function operate(site: Site, process: Process, kernel: Kernel, dice: Dice): Promise<void> {
  const path = dice.pick(['acme', 'acme/a', 'acme/b', 'acme/named'])
  const what = dice.int(0, 6)
  site.world.tell(() => `${process.actor.name} operates: ${what} on ${path}`)
  if (what === 0) await attempt(site, 'flush', () => kernel.flush())
  else if (what === 1) await attempt(site, 'sweep', () => kernel.sweep())
  else if (what === 2) await attempt(site, 'budgets', () => kernel.budgets())
  else if (what === 3) await freeze(site, kernel, path, dice)
  else if (what === 4) await correct(site, kernel, dice)
  else await attempt(site, 'setLimit', () => kernel.setLimit(path, { tokens: dice.int(0, 200) }, EVIDENCE))
}

async function freeze(site: Site, kernel: Kernel, path: string, dice: Dice): Promise<void> {
  site.frozenByOperator = true
  await attempt(site, 'freeze', () => kernel.freeze(path, EVIDENCE))
  await site.world.sleep(dice.random() * 800)
  await attempt(site, 'unfreeze', () => kernel.unfreeze(path, EVIDENCE))
}

/** Corrects a charge whose bill is there. */
async function correct(site: Site, kernel: Kernel, dice: Dice): Promise<void> {
  const charged = site.books.calls.filter((one) => one.told?.how === 'charged' && one.underway === 0 && isWithin(one))
  if (charged.length === 0) return
  const call = dice.pick(charged)
  call.corrected = true
  const used = { tokens: call.billed['tokens'] ?? 0, calls: call.billed['calls'] ?? 0 }
  await attempt(site, 'correct', () => kernel.correct({ process: call.boot, hold: call.hold!, used, ...EVIDENCE }))
}

const isWithin = ({ billed, worst }: Call): boolean =>
  Object.entries(billed).every(([dimension, amount]) => amount <= (worst[dimension] ?? 0))
