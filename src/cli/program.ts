// The commands, and what becomes of their errors: 0 is fine, 1 is refused or broken, 2 is a wrong command line.

import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { VERSION } from '../kernel/open-kernel.ts'
import { addAuditTail } from './audit-tail.ts'
import { addAuditVerify } from './audit-verify.ts'
import { addBoard } from './bb.ts'
import { addBudgetFreeze } from './budget-freeze.ts'
import { addBudgetHolds } from './budget-holds.ts'
import { addBudgetLimits } from './budget-limits.ts'
import { addBudgetRecover } from './budget-recover.ts'
import { addBudgetReport } from './budget-report.ts'
import { addBudgetStatus } from './budget-status.ts'
import { addDoctor } from './doctor.ts'
import { addHandoffList } from './handoff-list.ts'
import { faultOf, printFault } from './output.ts'
import { addPricesCheck } from './prices-check.ts'
import { addPricesList } from './prices-list.ts'
import { addPricesSet } from './prices-set.ts'
import { addPricesShow } from './prices-show.ts'
import { addStatus } from './status.ts'
import { addStop } from './stop.ts'
import { addStoreMigrate } from './store-migrate.ts'
import { parseStore, type StoreAddress } from './store-address.ts'

/** Runs a command line, such as `['budget', 'status', '--json']`; sets the exit code. Never rejects. */
export async function run(args: readonly string[]): Promise<void> {
  const asJson = flags(args).includes('--json')
  const program = createProgram(asJson)
  try {
    await program.parseAsync(helpAsked(program, args), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      process.exitCode = 1
      return printFault(faultOf(error), asJson)
    }
    // `--help` and `--version` end as errors with code 0.
    if (error.exitCode === 0) return
    process.exitCode = 2
    // Named without its command: its help has been printed, and says more.
    if (error.code === 'commander.help' && !asJson) return
    printFault({ code: 'ERR_USAGE', message: `${usageMessage(error)}\nTry: ${hintFor(program, args)}` }, asJson)
  }
}

function createProgram(asJson: boolean): Command {
  const program = new Command('holdfast')
    .description('Budgets, permissions and audit of your agents.')
    .version(VERSION, '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command...]', 'print the help of a command')
    .option('--data <dir>', 'the data directory of your program', nonEmpty, '.holdfast')
    .option(
      '--store <address>',
      'the store, where it is not in the data directory: file:DIR, sqlite:FILE, redis://..., postgres://...',
      asStore,
    )
    .option('--json', 'print one JSON document')
    .option('--no-color', 'print without colours; also NO_COLOR=1')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => undefined, ...(asJson ? { writeErr: () => undefined } : {}) })
    .exitOverride()
  addStatus(program)
  addStop(program)
  const budget = program.command('budget').description('look at budgets, and change them while they are in use').helpCommand(false)
  for (const add of [addBudgetStatus, addBudgetReport, addBudgetLimits, addBudgetFreeze, addBudgetHolds, addBudgetRecover]) add(budget)
  const bb = program.command('bb').description('look at the blackboard').helpCommand(false)
  addBoard(bb)
  const handoff = program.command('handoff').description('look at handoffs').helpCommand(false)
  addHandoffList(handoff)
  const audit = program.command('audit').description('look at the audit chains, and verify them').helpCommand(false)
  addAuditTail(audit)
  addAuditVerify(audit)
  const prices = program.command('prices').description('look at prices of models, and keep your own').helpCommand(false)
  for (const add of [addPricesList, addPricesShow, addPricesCheck, addPricesSet]) add(prices)
  const store = program.command('store').description('look after the store itself').helpCommand(false)
  addStoreMigrate(store)
  addDoctor(program)
  program.addHelpText('after', '\nExamples:\n  $ holdfast status\n  $ holdfast budget status acme --data ./run/.holdfast --json')
  budget.addHelpText(
    'after',
    '\nExamples:\n  $ holdfast budget status acme/report-7\n  $ holdfast budget check --task acme/report-7 --cost 0.25',
  )
  bb.addHelpText(
    'after',
    '\nExamples:\n  $ holdfast bb list accounts\n  $ holdfast bb get account:balance accounts\n  $ holdfast bb history account:balance accounts',
  )
  handoff.addHelpText('after', '\nExample:\n  $ holdfast handoff list --json')
  prices.addHelpText('after', '\nExamples:\n  $ holdfast prices show gpt-5.5\n  $ holdfast prices set my-model --input 1.25 --output 10')
  store.addHelpText('after', '\nExample:\n  $ holdfast store migrate --store postgres://owner@db.internal/agents')
  audit.addHelpText('after', '\nExamples:\n  $ holdfast audit tail -n 100\n  $ holdfast audit verify')
  return program
}

function nonEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('Give the name of a directory.')
  return value
}

function asStore(text: string): StoreAddress {
  try {
    return parseStore(text)
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message)
  }
}

/**
 * `help audit tail` as `audit tail --help`: commander's own help command knows one level only. Whatever else
 * stands there, flags and arguments of a command, nothing but help is asked for, so no command runs.
 */
function helpAsked(program: Command, args: readonly string[]): readonly string[] {
  const [first, ...asked] = operandsOf(program, flags(args))
  if (first !== 'help') return args
  const { command, names } = commandOf(program, asked)
  const unknown = asked[names.length]
  // With `--help` behind it, an unknown command would pass for a question about all of them.
  return command.commands.length > 0 && unknown !== undefined ? [...names, unknown] : [...names, '--help']
}

/** The arguments without global flags and their values. */
function operandsOf(program: Command, args: readonly string[]): readonly string[] {
  const valued = program.options.filter((option) => option.required).flatMap(({ short, long }) => [short, long])
  const isValue = (index: number): boolean => index > 0 && valued.includes(args[index - 1])
  return args.filter((arg, index) => !arg.startsWith('-') && !isValue(index))
}

/** What stands before `--`. */
function flags(args: readonly string[]): readonly string[] {
  const end = args.indexOf('--')
  return end < 0 ? args : args.slice(0, end)
}

function usageMessage({ code, message }: CommanderError): string {
  if (code === 'commander.help') return 'a command is missing.'
  return message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')
}

/** The help to read: of the command that was meant, as far as it was understood. */
function hintFor(program: Command, args: readonly string[]): string {
  const operands = operandsOf(program, flags(args)).filter((operand, index) => index > 0 || operand !== 'help')
  return [program.name(), ...commandOf(program, operands).names, '--help'].join(' ')
}

/** The command that these begin with, as far as they name one. */
function commandOf(program: Command, operands: readonly string[]): { readonly command: Command; readonly names: readonly string[] } {
  let command = program
  const names: string[] = []
  for (const name of operands) {
    const next = command.commands.find((one) => one.name() === name)
    if (next === undefined) break
    command = next
    names.push(name)
  }
  return { command, names }
}
