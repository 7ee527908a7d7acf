// `holdfast budget init`, `check` and `set-limit`: how much there is to be, and whether something fits.

import { InvalidArgumentError, type Command } from 'commander'
import type { LimitChange } from '../budget/operator.ts'
import { toAmounts, type BudgetDeclaration } from '../budget/declaration.ts'
import { budgetKey, levelsOf, type BudgetRecord } from '../budget/record.ts'
import type { BudgetLine } from '../budget/report.ts'
import { fitOf } from '../budget/fit.ts'
import { legsOf } from '../budget/legs.ts'
import { assertKnownDimensions, createLevels } from '../budget/levels.ts'
import { formatAmount, formatUsd, type Amounts } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { MAX_RAISE_MS } from '../kernel/operator.ts'
import type { Store } from '../stores/store.ts'
import { asOperator, evidenceOf, parseAmounts, parseBudget, parseUsd, withEvidence } from './as-operator.ts'
import { openToWrite, withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { namedAmount, parseSpan, timeOf } from './text.ts'

/** What `holdfast budget init --json` prints. */
export interface BudgetInitJson {
  /** The budget as it is now; one entry for each dimension. */
  readonly budget: readonly BudgetLine[]
}

/** What `holdfast budget check --json` prints. Amounts are integers: `usd` in nano-USD. */
export interface BudgetCheckJson {
  readonly budget: string
  readonly cost: Amounts
  /** Whether it fits at this moment. Only a hold keeps it so. */
  readonly fits: boolean
  /** Where it does not: the budget and the dimension that bind, and what is free there. */
  readonly binding?: { readonly budget: string; readonly dimension: string; readonly free: number; readonly held: number }
}

/** What `holdfast budget set-limit --json` prints. Amounts are integers: `usd` in nano-USD. */
export interface SetLimitJson {
  readonly changes: readonly LimitChange[]
}

/** Adds the commands to `holdfast budget`. */
export function addBudgetLimits(parent: Command): void {
  addInit(parent)
  addCheck(parent)
  addSetLimit(parent)
}

function addInit(parent: Command): void {
  const command = parent
    .command('init')
    .description('declare a budget, and make the store if there is none')
    .requiredOption('--task <name>', 'the budget: a task, or a path such as acme/report-7', parseBudget)
    .requiredOption('--limit <usd>', 'what it may cost, in dollars', parseUsd)
    .argument('[more...]', 'further limits, such as tokens=100000 or calls=50')
  command.addHelpText(
    'after',
    `
Safe to repeat. Another limit for a budget that is there: holdfast budget set-limit

Examples:
  $ holdfast budget init --task report-7 --limit 5
  $ holdfast budget init --task report-7 --limit 5 calls=200 --store sqlite:budgets.db`,
  )
  reports(command, (place) => {
    const { task, limit } = command.opts<{ task: string; limit: string }>()
    return init(place, task, { usd: limit, ...parseAmounts(command.processedArgs[0] as string[]) })
  })
}

async function init(place: Place, task: string, limits: BudgetDeclaration): Promise<Report> {
  const parents = await parentsOf(place, task)
  return asOperator(
    place,
    async (kernel) => {
      const budget = (await kernel.budgets(task)).filter((line) => line.budget === task)
      return {
        json: { budget } satisfies BudgetInitJson,
        text: () =>
          budget
            .map(({ dimension, limit, free }) => `${task}: ${namedAmount(dimension, limit)}, free ${formatAmount(dimension, free)}\n`)
            .join(''),
      }
    },
    { create: true, budgets: { ...parents, [task]: limits } },
  )
}

/** A budget stands on declared parents; what is there already is declared as it is. */
async function parentsOf(place: Place, task: string): Promise<Record<string, BudgetDeclaration>> {
  const above = levelsOf(task).slice(0, -1)
  if (above.length === 0) return {}
  const store = await openToWrite(place, true)
  try {
    const entries = await store.read(above.map(budgetKey))
    return Object.fromEntries(
      above.flatMap((path, index) => {
        const record = entries[index]?.value as unknown as BudgetRecord | undefined
        return record === undefined ? [] : [[path, declarationOf(record)] as const]
      }),
    )
  } finally {
    await store.close()
  }
}

function declarationOf({ revision, limits, declaration = limits, windows = {} }: BudgetRecord): BudgetDeclaration {
  const declared = Object.values(windows).map(({ per, timeZone, rolling, limits: of }) => ({
    per,
    ...(timeZone === undefined ? {} : { timeZone }),
    ...(rolling === undefined ? {} : { rolling }),
    ...asWritten(of),
  }))
  return { revision, ...asWritten(declaration), ...(declared.length === 0 ? {} : { windows: declared }) }
}

const asWritten = (amounts: Amounts): Readonly<Record<string, number | string>> =>
  Object.fromEntries(
    Object.entries(amounts).map(([dimension, amount]) => [dimension, dimension === 'usd' ? formatUsd(amount).slice(1) : amount]),
  )

function addCheck(parent: Command): void {
  const command = parent
    .command('check')
    .description('say whether a cost fits into a budget now: exit code 0, or 1 when it does not')
    .requiredOption('--task <name>', 'the budget', parseBudget)
    .option('--cost <usd>', 'in dollars', parseUsd)
    .argument('[more...]', 'further amounts, such as tokens=2000')
  command.addHelpText(
    'after',
    `
Nothing is set aside: a moment later it may not fit any more. Only a hold of a kernel keeps what it has.

Examples:
  $ holdfast budget check --task report-7 --cost 0.25 && ./run-report
  $ holdfast budget check --task acme/report-7 --cost 0 tokens=2000 --json`,
  )
  reports(command, (place) => {
    const { task, cost } = command.opts<{ task: string; cost?: string }>()
    const amounts = { ...(cost === undefined ? {} : { usd: cost }), ...parseAmounts(command.processedArgs[0] as string[]) }
    return check(place, task, toAmounts('cost', amounts))
  })
}

async function check(place: Place, budget: string, cost: Amounts): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const json = await judge(store, budget, cost)
    const { binding } = json
    const written = Object.entries(cost).map(([dimension, amount]) => namedAmount(dimension, amount))
    const text = (): string => `${written.join(', ') || 'Nothing'} ${json.fits ? 'fits' : 'does not fit'} into ${budget}.\n`
    if (binding === undefined) return { json, text }
    const { dimension, free, held } = binding
    const message = `Budget \`${binding.budget}\` has ${formatAmount(dimension, free)} ${dimension} free${held === 0 ? '' : `, and ${formatAmount(dimension, held)} that others hold`}.`
    return { json, text, fault: { code: free + held < (cost[dimension] ?? 0) ? 'ERR_BUDGET_EXCEEDED' : 'ERR_BUDGET_BUSY', message } }
  })
}

/** Asks exactly what a call would be asked. @throws {Refusal} For a budget that does not exist, or is frozen. */
async function judge(store: Store, budget: string, cost: Amounts): Promise<BudgetCheckJson> {
  const levels = createLevels(store)
  const path = await levels.of(budget)
  assertKnownDimensions(path, cost)
  const legs = legsOf(path, cost, new Set())
  const fit = fitOf(legs, await levels.standings(legs), { fixed: cost, output: { tokens: 0, minTokens: 0, perToken: {} } })
  if (fit.fit === 'now') return { budget, cost, fits: true }
  const { leg, standing } = fit
  const free = Math.max(0, standing.free - standing.cut)
  return { budget, cost, fits: false, binding: { budget: leg.level.path, dimension: leg.dimension, free, held: standing.out } }
}

function addSetLimit(parent: Command): void {
  const command = withEvidence(
    parent
      .command('set-limit')
      .description('set the limit in force, up or down, while the budget is in use')
      .argument('<path>', 'the budget', parseBudget)
      .argument('<limits...>', 'such as usd=20 or tokens=100000')
      .option('--for <span>', 'raise it for a while only, such as 30min, 2h or 1d', parseFor),
  )
  command.addHelpText(
    'after',
    `
Raising is at once. Lowering takes what is free now and the rest as it comes back; what is spent stays spent.
Nobody may take what is still to be cut. Who must stop at once: holdfast budget freeze
What your program declares stays as it is: a declaration with a higher revision sets its own limit again.
With --for the limit falls again by the same amount when that is over: whatever opens the store next, or looks
after it then, ends it. Raises add up; a limit that is set without --for ends them.

Examples:
  $ holdfast budget set-limit acme usd=20 --reason "end of the quarter"
  $ holdfast budget set-limit acme usd=80 --for 2h --reason "the big import"
  $ holdfast budget set-limit acme/report-7 usd=5 tokens=100000 --reason "ticket 4711" --by ada`,
  )
  reports(command, (place) =>
    setLimit(place, command.processedArgs[0] as string, () => parseAmounts(command.processedArgs[1] as string[]), command),
  )
}

async function setLimit(place: Place, path: string, limits: () => ReturnType<typeof parseAmounts>, command: Command): Promise<Report> {
  const wanted = limits()
  const { for: forMs } = command.opts<{ for?: number }>()
  return asOperator(place, async (kernel) => {
    const evidence = { ...evidenceOf(command), ...(forMs === undefined ? {} : { forMs }) }
    const changes = await kernel.setLimit(path, wanted, evidence).catch(explain)
    return { json: { changes } satisfies SetLimitJson, text: () => changes.map(describe).join('') }
  })
}

/** @throws {InvalidArgumentError} */
function parseFor(text: string): number {
  const ms = parseSpan(text)
  if (ms !== undefined && ms >= 1 && ms <= MAX_RAISE_MS) return ms
  throw new InvalidArgumentError(`\`${text}\` is no span of 1s to 366d; write 30min, 2h or 1d.`)
}

function describe({ budget, dimension, before, limit, pendingCut, untilMs }: LimitChange): string {
  const write = (amount: number): string => formatAmount(dimension, amount)
  const rest = pendingCut === 0 ? '' : `; ${write(pendingCut)} of it are spent or held, and are cut as they come back`
  const until = untilMs === undefined ? '' : `, until ${timeOf(untilMs)}`
  return `${budget}: ${dimension} ${write(before)} -> ${write(limit)}${until}${rest}\n`
}

/** A dimension that is not there is no accident of the program. */
function explain(error: unknown): never {
  if (error instanceof RangeError) throw new HoldfastError('ERR_BUDGET_DECLARATION', error.message, { cause: error })
  throw error
}
