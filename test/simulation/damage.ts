// What is claimed of a store that lost what it had acknowledged: whoever can know it stops, and what was billed beyond
// the ledger is at most what was lost. The second is looked at after every batch; here is the first.

import { attempt } from './attempt.ts'
import { budgetOf, equationFault, partsOf } from './law.ts'
import { addProcess, open } from './process.ts'
import { scopeOf, type Site } from './site.ts'

/** Looks whether the loss is found by those who come next. */
export async function judgeDamaged(site: Site): Promise<void> {
  const { world, plan } = site
  if (plan.storeFault!.kind === 'roll-back') return judgeRolledBack(site)
  const { look } = site.truth
  // A handoff that was closed is used by nobody; nothing can be taken from it any more.
  const isOpen = (leg: string): boolean => budgetOf(look, partsOf(leg)[1])?.closed === undefined
  const broken = [...site.books.lost.keys()].find((leg) => isOpen(leg) && equationFault(leg, look) !== undefined)
  if (broken === undefined) return
  const [, path] = partsOf(broken)
  const root = path.split('/')[0]!
  const process = addProcess(site, 'whoever comes next', undefined)
  await world.as(process.actor, async () => {
    const kernel = await open(site, process, { leasing: 'off' })
    if (kernel === undefined) return
    const take = () =>
      attempt(site, 'a take from a damaged budget', () =>
        scopeOf(kernel, path).begin({ kind: 'tool', resource: 'look', worst: { tokens: 1 } }),
      )
    await take()
    await attempt(site, 'a sweep', () => kernel.sweep())
    if (budgetOf(look, root)?.frozen === undefined) return world.fail(`${broken} does not balance, and ${root} is not frozen`)
    if ((await take()) !== undefined) world.fail(`${broken} does not balance, and money was taken from ${path}`)
  })
}

/** A kernel does not open where a chain notes more than the store has. */
async function judgeRolledBack(site: Site): Promise<void> {
  const { world, truth, processes } = site
  for (const directory of new Set(processes.flatMap(({ directory }) => directory ?? []))) {
    const noted = world.disk.notedVersion(directory)
    if (noted <= truth.version) continue
    const process = addProcess(site, `whoever comes next on ${directory}`, directory)
    const kernel = await world.as(process.actor, () => open(site, process, { leasing: 'off' }))
    if (kernel !== undefined) world.fail(`a chain notes version ${noted}, the store is at ${truth.version}, and a kernel opened`)
  }
}
