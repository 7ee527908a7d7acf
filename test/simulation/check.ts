// The end of a run: nothing goes wrong any more, everybody closes, the dead fall silent, and whoever comes next looks
// after what they left. Then everything has to be accounted for, and what is free has to be there for the taking.

import type { Kernel } from '../../src/kernel/open-kernel.ts'
import { attempt } from './attempt.ts'
import { accountFaults } from './account.ts'
import { budgetOf, count, type Look } from './law.ts'
import { judgeDamaged } from './damage.ts'
import { LATE_MS } from './network.ts'
import { addProcess, open } from './process.ts'
import { reclaimAll } from './reclaim.ts'
import { scopeOf, type Process, type Site } from './site.ts'
import { levelsOf } from './books.ts'

/** TTL of those who look after everybody in the end, ms. */
const TTL_MS = 1_000
const GRACE_MS = 2_000
/** A rolling minute in parts of ten seconds, and a little more. */
const WINDOW_MS = 75_000
/** Between two looks for dead processes, and a little more. */
const LOOK_MS = 1_100
/** Ends that wait for the store are sent again after 5 s at the latest. */
const REPORTED_MS = 12_000
/** How long an allotment of a process that is gone stays open, in TTLs of whoever looks. */
const ORPHAN_TTLS = 5

/** Brings a run to its end, and says what is wrong with it. */
export async function assertEnd(site: Site): Promise<void> {
  const { world, plan, network, processes } = site
  network.healed = true
  network.cutUntilMs.clear()
  // Whoever is stopped goes on first: a kernel waits for its own end 5 s at most.
  for (const { actor } of processes) actor.stop = undefined
  for (const { actor } of processes) if (actor.alive) await world.sleep(Math.max(0, actor.pausedUntilMs - world.nowMs))
  for (const process of processes) await close(site, process)
  if (plan.storeFault !== undefined) return judgeDamaged(site)
  await world.sleep(Math.max(plan.leaseTtlMs + GRACE_MS, (plan.odds.late ?? 0) > 0 ? LATE_MS : 0) + LOOK_MS)
  const directories = [...new Set(processes.map(({ directory }) => directory))]
  for (const [at, directory] of directories.entries()) await lookAfter(site, directory, at === directories.length - 1)
}

/** Closes the kernel of a process that is still there; then the process ends. */
async function close(site: Site, process: Process): Promise<void> {
  const { actor, kernel } = process
  const { world } = site
  if (actor.alive && kernel !== undefined) {
    const closing = world.as(actor, async () => {
      await attempt(site, 'close', () => kernel.close())
      // A kernel that was closed while the store was away goes on sending what it has, as long as its process lives.
      if (process.isCutShort) await world.sleep(REPORTED_MS)
      process.end = 'closed'
    })
    await Promise.race([actor.gone, closing])
    if (kernel.pendingReports > 0 && process.end === 'closed' && site.plan.storeFault === undefined)
      world.fail(`${actor.name} has closed with ${kernel.pendingReports} ends that the store does not know of`)
  }
  if (process.end !== 'closed') process.end = 'gone'
  world.kill(actor, 'it has ended')
}

/** What a new process does about those before it; the last one has all of it to account for. */
async function lookAfter(site: Site, directory: string | undefined, isLast: boolean): Promise<void> {
  const { world } = site
  const process = addProcess(site, `whoever comes next on ${directory ?? 'no disk'}`, directory)
  await world.as(process.actor, async () => {
    // With that it has looked after the dead of its own host already.
    const kernel = await open(site, process, { leasing: 'off', leaseTtlMs: TTL_MS })
    if (kernel === undefined) return world.fail('no new process can open the store')
    process.kernel = kernel
    if (!isLast) return
    // What nobody closed is closed after a while; what that leaves is brought up by the next look.
    for (const ms of [ORPHAN_TTLS * TTL_MS + LOOK_MS, LOOK_MS]) {
      await world.sleep(ms)
      await attempt(site, 'a sweep', () => kernel.sweep())
    }
    await reclaimAll(site, kernel)
    for (const fault of accountFaults(site, kernel.boot)) world.fail(fault)
    await takeAll(site, kernel)
  })
  await close(site, process)
  if (isLast) for (const fault of accountFaults(site)) world.fail(`after taking and giving back all that is free: ${fault}`)
}

/** Takes everything that is free, from every budget that is there, and gives it back. */
async function takeAll({ world, truth, plan }: Site, kernel: Kernel): Promise<void> {
  const { look } = truth
  if (Object.values(plan.budgets).some(({ windows }) => windows !== undefined)) {
    // What is left of a window that is current by a clock that was set is nothing that a minute later is there.
    if (plan.storeJumps.length > 0) return
    await world.sleep(WINDOW_MS)
  }
  for (const { key } of truth.list('budget/', { limit: 10_000 })) {
    const path = key.slice('budget/'.length)
    if (path.includes('*') || budgetOf(look, path)?.closed !== undefined) continue
    const worst = freeAt(look, path)
    const frozen = levelsOf(path).some((level) => budgetOf(look, level)?.frozen !== undefined)
    if (Object.values(worst).every((amount) => amount === 0)) continue
    try {
      const hold = await scopeOf(kernel, path).begin({ kind: 'tool', resource: 'all', worst })
      if (frozen) world.fail(`${path} is frozen, and ${JSON.stringify(worst)} could be taken`)
      await hold.release('it was only a look')
    } catch (error) {
      if (!frozen) world.fail(`${JSON.stringify(worst)} of ${path} is free, and taking it gives ${String(error)}`)
    }
  }
}

/** What can be taken at a path: the least of what is free at its levels. */
function freeAt(look: Look, path: string): Record<string, number> {
  const free: Record<string, number> = {}
  for (const level of levelsOf(path)) {
    const { limits = {}, cut = {}, windows = {} } = budgetOf(look, level) ?? {}
    // All of a minute is free again by now; of a day only what nobody has used.
    for (const { limits: of, per, current } of Object.values(windows))
      for (const [dimension, limit] of Object.entries(of)) {
        const left = per === 'day' && current !== undefined ? count(look, 'free', `${dimension}/${level}/*day/${current}`) : limit
        free[dimension] = Math.min(free[dimension] ?? Infinity, left)
      }
    for (const dimension of Object.keys(limits)) {
      const here = Math.max(0, count(look, 'free', `${dimension}/${level}`) - (cut[dimension] ?? 0))
      free[dimension] = Math.min(free[dimension] ?? Infinity, here)
    }
  }
  return free
}
