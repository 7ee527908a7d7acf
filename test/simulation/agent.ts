// An agent at work, the way a program should be written: hold, call, and say what was used; in doubt, charge.

import type { Amounts } from '../../src/lib/amounts.ts'
import type { Action } from '../../src/waist/action.ts'
import type { Hold } from '../../src/waist/hold.ts'
import type { Scope } from '../../src/waist/scope.ts'
import { attempt } from './attempt.ts'
import type { Call, Told } from './books.ts'
import type { Dice } from './dice.ts'
import { operate } from './operations.ts'
import type { Answer } from './provider.ts'
import { scopeOf, type Process, type Site } from './site.ts'

/** Longest time between two things that an agent does, ms. */
const THINK_MS = 1_200
/** How long it waits for an answer, ms; one that comes later corrects a charge. */
const PATIENCE_MS = 2_500
/** No answer comes later than that, ms. */
const LATEST_MS = 7_000
/** Calls in a row, which is what makes a kernel lease. */
const BURST = 8

/** Does the work of one agent of a process. */
export async function work(site: Site, process: Process, tasks: number, dice: Dice): Promise<void> {
  const kernel = process.kernel!
  const { plan, world } = site
  for (let task = 0; task < tasks; task++) {
    await world.sleep(dice.random() * THINK_MS)
    const scope = scopeOf(kernel, dice.pick(plan.paths))
    if (dice.chance(plan.operations)) await operate(site, process, kernel, dice)
    else if (dice.chance(plan.handoffs)) await handOff(site, process, scope, dice, 0)
    else if (dice.chance(0.3)) for (let at = 0; at < BURST; at++) await call(site, process, scope, dice, 0.3)
    else await call(site, process, scope, dice)
  }
}

/** Hands work to another agent, who may hand on a part of it. */
async function handOff(site: Site, process: Process, giver: Scope, dice: Dice, depth: number): Promise<void> {
  const budget = dice.chance(0.5) ? { tokens: dice.int(1, 30) } : { tokens: dice.int(5, 40), calls: dice.int(1, 6) }
  const handoff = await attempt(site, 'a handoff', () => giver.handoff({ to: `helper-${depth}`, budget, instruction: 'help' }))
  if (handoff === undefined) return
  for (let calls = dice.int(0, 4); calls > 0; calls--) {
    if (depth < 2 && dice.chance(0.25)) await handOff(site, process, handoff.scope, dice, depth + 1)
    else await call(site, process, handoff.scope, dice)
  }
  // Some are left open: they end with their process, or after it.
  if (dice.chance(0.75)) await attempt(site, 'closing a handoff', () => handoff.close())
}

/** One call: held, made, and ended. */
async function call(site: Site, process: Process, scope: Scope, dice: Dice, scale = 1): Promise<void> {
  const { habits, plan } = site
  const worst: Amounts = { tokens: dice.int(1, Math.max(1, Math.round(plan.mostTokens * scale))), calls: 1 }
  const action: Action = { kind: 'model', resource: 'model', worst }
  if (habits.calls !== 'when-held') return carelessly(site, process, scope, action)
  const made = site.books.open({ actor: process.actor, boot: scope.boot, path: scope.budget, worst })
  const hold = await begin(site, scope, action, made)
  if (hold === undefined) return
  if (dice.chance(0.03)) return end(site, made, hold, 'released', {})
  await finish(
    site,
    process,
    made,
    hold,
    Array.from({ length: habits.attempts }, () => site.provider.send(made)),
  )
}

async function begin(site: Site, scope: Scope, action: Action, made: Call): Promise<Hold | undefined> {
  const hold = await attempt(site, 'begin', () => scope.begin(action))
  made.hold = hold?.id
  made.isRefused = hold === undefined
  site.world.tell(() =>
    hold === undefined ? 'nothing is held' : `${made.actor.name} holds ${JSON.stringify(hold.amounts)} of ${made.path} as ${hold.id}`,
  )
  return hold
}

/** What seeded bugs do: the call is on its way before anything is held. */
async function carelessly(site: Site, process: Process, scope: Scope, action: Action): Promise<void> {
  const { books, provider, habits } = site
  const worst = action.worst!
  if (habits.calls === 'after-a-look') {
    const lines = (await attempt(site, 'a look', () => process.kernel!.budgets(scope.budget))) ?? []
    if (lines.some(({ budget, dimension, free }) => budget === scope.budget && free < (worst[dimension] ?? 0))) return
  }
  const early = books.open({ actor: process.actor, boot: scope.boot, path: scope.budget, worst })
  const answer = provider.send(early)
  const hold = await begin(site, scope, action, early)
  if (hold !== undefined) await finish(site, process, early, hold, [answer])
}

async function finish(site: Site, process: Process, made: Call, hold: Hold, answers: readonly Promise<Answer>[]): Promise<void> {
  const { world, habits } = site
  const answer = await Promise.race([answers[0]!, world.sleep(PATIENCE_MS)])
  if (answer !== undefined) return conclude(site, made, hold, answer)
  await end(site, made, hold, habits.onTimeout === 'charge' ? 'charged' : 'released', made.worst)
  // It may come after all; who waits for it no longer holds anybody up.
  const late = answers[0]!.then((answer) => (answer.usage === undefined ? undefined : conclude(site, made, hold, answer)))
  process.background.add(late)
}

async function conclude(site: Site, made: Call, hold: Hold, { status, usage }: Answer): Promise<void> {
  const { habits } = site
  if (made.actor.alive) made.known = usage
  if (status === 400) return end(site, made, hold, 'released', {})
  if (status === 500) return end(site, made, hold, habits.onServerError === 'charge' ? 'charged' : 'released', made.worst)
  if (usage !== undefined) return end(site, made, hold, 'settled', habits.reports(usage, made.worst))
  if (habits.withoutUsage === 'charge') return end(site, made, hold, 'charged', made.worst)
  await end(site, made, hold, 'settled', { tokens: 0, calls: 0 })
}

/** Tells the kernel what became of a hold. What it is told counts from the moment that it is told. */
async function end(site: Site, made: Call, hold: Hold, how: Told['how'], used: Amounts): Promise<void> {
  const { actor } = made
  if (actor.alive) made.told = { how, used: how === 'released' ? {} : used }
  site.world.tell(() => `${actor.name} says ${how} ${JSON.stringify(used)} of ${made.hold}`)
  await attempt(site, `the end of a hold (${how})`, async () => {
    if (how === 'settled') await hold.settle(used)
    else if (how === 'released') await hold.release('it was not billed')
    else await hold.charge('nobody knows')
  })
}

/** Waits for the answers that may still come; those that are lost never do. */
export async function rest({ world }: Site, process: Process): Promise<void> {
  if (process.background.size > 0) await Promise.race([Promise.all(process.background), world.sleep(LATEST_MS)])
}
