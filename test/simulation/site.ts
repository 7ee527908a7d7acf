// What everything in one run shares.

import type { Kernel } from '../../src/kernel/open-kernel.ts'
import type { Scope } from '../../src/waist/scope.ts'
import type { Books } from './books.ts'
import type { Habits } from './habits.ts'
import type { Connection, Network } from './network.ts'
import type { Plan } from './plan.ts'
import type { Provider } from './provider.ts'
import type { Truth } from './truth.ts'
import type { Actor, World } from './world.ts'

/** One run, and all that is in it. */
export interface Site {
  readonly world: World
  readonly plan: Plan
  readonly books: Books
  readonly truth: Truth
  readonly network: Network
  readonly provider: Provider
  readonly habits: Habits
  readonly processes: Process[]
  /** An operator has frozen something at some time. */
  frozenByOperator: boolean
}

/** A process of a run. */
export interface Process {
  readonly actor: Actor
  readonly connection: Connection
  /** Its data directory, on the disk of its host. */
  readonly directory: string | undefined
  kernel: Kernel | undefined
  /** How it went: it closed its kernel in the end, or it was gone before. */
  end: 'running' | 'closed' | 'gone'
  /** Its kernel was closed, or its disk was full, while its agents worked: what they said may not have been heard. */
  isCutShort: boolean
  /** What its program still does in the background. */
  readonly background: Set<Promise<unknown>>
}

/** The scope of a process on a budget. */
export const scopeOf = (kernel: Kernel, path: string): Scope => kernel.scope({ agent: 'agent', task: 'task', budget: path })
