// A process of a run: a kernel of its own on a connection of its own, agents at work, and what happens to it.

import { openKernel, type Kernel } from '../../src/kernel/open-kernel.ts'
import { rest, work } from './agent.ts'
import { diceOf } from './dice.ts'
import { attempt, isExpected } from './attempt.ts'
import { connect } from './network.ts'
import type { At, ProcessPlan } from './plan.ts'
import type { Process, Site } from './site.ts'

/** How often a process tries to open its kernel. */
const MAX_OPENINGS = 20

/** Starts a process of the plan; it does what it has to do, and leaves. */
export async function live(site: Site, plan: ProcessPlan, at: number): Promise<void> {
  const { world, network } = site
  const process = addProcess(site, `process ${at}`, plan.directory)
  const { actor } = process
  actor.crash = plan.crash
  actor.stop = plan.stop
  actor.skewMs = plan.skewMs
  const later = <T extends At>(events: readonly T[], happen: (event: T) => void): void => {
    for (const event of events) world.after(event.atMs, world.nobody, () => happen(event))
  }
  later(plan.jumps, ({ byMs }) => (actor.skewMs += byMs))
  later(plan.pauses, ({ forMs }) => {
    if (!network.healed) world.pause(actor, forMs)
  })
  later(plan.cuts, ({ forMs }) => network.cutUntilMs.set(actor, world.nowMs + forMs))
  if (plan.fullDisk !== undefined)
    later([plan.fullDisk], ({ forMs }) => {
      process.isCutShort = true
      actor.diskFullUntilMs = world.nowMs + forMs
    })
  await world.sleep(plan.startMs)
  // Nobody waits for a process that is gone: its promises are never kept.
  await Promise.race([actor.gone, world.as(actor, () => program(site, process, plan, at))])
}

/** Adds a process that has done nothing yet. */
export function addProcess({ world, truth, network, processes }: Site, name: string, directory: string | undefined): Process {
  const actor = world.actor(name)
  const process: Process = {
    actor,
    connection: connect(world, truth, network, actor),
    directory,
    kernel: undefined,
    end: 'running',
    isCutShort: false,
    background: new Set(),
  }
  processes.push(process)
  return process
}

async function program(site: Site, process: Process, plan: ProcessPlan, at: number): Promise<void> {
  const { world } = site
  process.kernel = await open(site, process, { leasing: plan.leasing })
  if (process.kernel === undefined) {
    leave(site, process, 'it cannot open its kernel')
    return
  }
  if (plan.closesAtMs !== undefined) void closeEarly(site, process, plan.closesAtMs)
  const agents = Array.from({ length: plan.agents }, (_, agent) =>
    work(site, process, plan.tasks, diceOf(world.seed, `agent ${at}/${agent}`)),
  )
  await Promise.all(agents)
  if (plan.leaves === 'exit') return leave(site, process, 'it exits without a word')
  await rest(site, process)
}

/** Closes a kernel while its agents work: what is held then is charged, and they are told so when they ask next. */
async function closeEarly(site: Site, process: Process, atMs: number): Promise<void> {
  await site.world.sleep(atMs)
  process.isCutShort = true
  site.world.meet('a kernel that is closed while agents work')
  await attempt(site, 'close', () => process.kernel!.close())
}

/** A kernel on the connection of a process, if there can be one. */
export async function open(
  site: Site,
  { connection, directory, actor }: Process,
  options: { readonly leasing: 'auto' | 'off'; readonly leaseTtlMs?: number },
): Promise<Kernel | undefined> {
  const { world, plan } = site
  for (let opening = 0; opening < MAX_OPENINGS; opening++) {
    try {
      return await openKernel({
        store: connection,
        ...(opening === 0 || world.nowMs > 0 ? { budgets: plan.budgets } : {}),
        ...(directory === undefined ? {} : { data: directory }),
        waitMs: plan.waitMs,
        holdDeadlineMs: plan.holdDeadlineMs,
        leaseTtlMs: plan.leaseTtlMs,
        ...options,
        clock: { now: () => actor.platform.wallMs(), elapsed: () => actor.platform.elapsedMs() },
        onEvent({ type, message }) {
          world.meet(`an event: ${type}`)
          world.tell(() => `${actor.name} tells (${type}): ${message}`)
        },
      })
    } catch (error) {
      world.tell(() => `${actor.name} cannot open its kernel: ${String(error)}`)
      if (!isExpected(site, error)) world.fail(`${actor.name} cannot open its kernel: ${String(error)}`)
      await world.sleep(100 * opening)
    }
  }
  return undefined
}

/** The process is over, without having closed anything. */
export function leave({ world }: Site, { actor }: Process, why: string): void {
  world.kill(actor, why)
}
