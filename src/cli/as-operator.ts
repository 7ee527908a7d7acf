// Commands that change something: each opens a kernel for a moment, so that what it does is in an audit chain beside
// those of the program, with who did it and why.

import { InvalidArgumentError, type Command } from 'commander'
import { toAmounts, type BudgetDeclaration } from '../budget/declaration.ts'
import { openKernel, type Kernel } from '../kernel/open-kernel.ts'
import type { KernelEvent } from '../kernel/events.ts'
import type { Evidence, GivenAmounts } from '../kernel/operator.ts'
import { parsePath } from '../lib/names.ts'
import { userName } from './doctor-levels.ts'
import { openToWrite } from './open-store.ts'
import type { Place } from './store-address.ts'

/** What a command may ask of {@link asOperator}. */
export interface OperatorSession {
  /** Make the store if it is not there. @default false */
  readonly create?: boolean
  readonly budgets?: Readonly<Record<string, BudgetDeclaration>>
  readonly onEvent?: (event: KernelEvent) => void
}

/**
 * Runs `work` with a kernel on the store of a place. Opening it looks after dead processes, as opening any kernel does.
 *
 * @throws {HoldfastError} `ERR_STORE` when there is no store, `ERR_DAMAGE` when it has lost something.
 */
export async function asOperator<T>(
  place: Place,
  work: (kernel: Kernel) => Promise<T>,
  { create = false, budgets, onEvent = () => undefined }: OperatorSession = {},
): Promise<T> {
  const store = await openToWrite(place, create)
  try {
    const kernel = await openKernel({
      store,
      data: place.data,
      mode: 'enforce',
      // It holds no money itself; what the store keeps is the business of the kernels that do.
      promise: 'bounded',
      leasing: 'off',
      waitMs: 0,
      onEvent,
      ...(budgets === undefined ? {} : { budgets }),
    })
    try {
      return await work(kernel)
    } finally {
      await kernel.close()
    }
  } finally {
    await store.close()
  }
}

/** Adds `--reason` and `--by` to a command. */
export function withEvidence(command: Command): Command {
  return command
    .requiredOption('--reason <text>', 'why; it is recorded in the audit chain')
    .option('--by <name>', 'who; it is recorded too', userName())
}

/** What they say. */
export const evidenceOf = (command: Command): Evidence => {
  const { by, reason } = command.opts<Evidence>()
  return { by, reason }
}

/** Reads `usd=0.50 tokens=1000`: dollars for usd, whole units for the rest. @throws {InvalidArgumentError} */
export function parseAmounts(words: readonly string[]): GivenAmounts {
  const amounts: Record<string, number | string> = {}
  for (const word of words) {
    const [, dimension = '', amount = ''] = /^([^=]+)=\$?(.*)$/s.exec(word) ?? []
    if (dimension === '' || !/^\d+(?:\.\d+)?$/.test(amount))
      throw new InvalidArgumentError(`\`${word}\` is no amount; write usd=0.50 or tokens=1000.`)
    if (Object.hasOwn(amounts, dimension)) throw new InvalidArgumentError(`\`${dimension}\` is given twice.`)
    amounts[dimension] = dimension === 'usd' ? amount : Number(amount)
  }
  return understood(() => (toAmounts('amount', amounts), amounts))
}

/** Dollars on the command line, with or without their sign. @throws {InvalidArgumentError} */
export function parseUsd(text: string): string {
  return parseAmounts([`usd=${text}`])['usd'] as string
}

/** The path of a budget. @throws {InvalidArgumentError} */
export function parseBudget(path: string): string {
  const normal = path.normalize()
  understood(() => parsePath('path', normal))
  return normal
}

/** What cannot be understood is a wrong command line, whoever finds out. */
function understood<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}
