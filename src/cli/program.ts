// The commands, and what becomes of their errors: 0 is fine, 1 is refused or broken, 2 is a wrong command line.

import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { VERSION } from '../kernel/open-kernel.ts'
import { addAuditTail } from './audit-tail.ts'
import { addAuditVerify } from './audit-verify.ts'
import { addBudgetStatus } from './budget-status.ts'
import { addDoctor } from './doctor.ts'
import { faultOf, printFault } from './output.ts'
import { addStatus } from './status.ts'

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
    printFault({ code: 'ERR_USAGE', message: `${usageMessage(error)}\nTry: ${commandOf(program, args)} --help` }, asJson)
  }
}

function createProgram(asJson: boolean): Command {
  const program = new Command('holdfast')
    .description('Budgets, permissions and audit of your agents: look at a data directory.')
    .version(VERSION, '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command...]', 'print the help of a command')
    .option('--data <dir>', 'the data directory of your program', nonEmpty, '.holdfast')
    .option('--json', 'print one JSON document')
    .option('--no-color', 'print without colours; also NO_COLOR=1')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => undefined, ...(asJson ? { writeErr: () => undefined } : {}) })
    .exitOverride()
  addStatus(program)
  const budget = program.command('budget').description('look at budgets').helpCommand(false)
  addBudgetStatus(budget)
  const audit = program.command('audit').description('look at the audit chains, and verify them').helpCommand(false)
  addAuditTail(audit)
  addAuditVerify(audit)
  addDoctor(program)
  program.addHelpText('after', '\nExamples:\n  $ holdfast status\n  $ holdfast budget status acme --data ./run/.holdfast --json')
  budget.addHelpText('after', '\nExample:\n  $ holdfast budget status acme/report-7')
  audit.addHelpText('after', '\nExamples:\n  $ holdfast audit tail -n 100\n  $ holdfast audit verify')
  return program
}

function nonEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('Give the name of a directory.')
  return value
}

/** `help audit tail` as `audit tail --help`: commander's own help command knows one level only. */
function helpAsked(program: Command, args: readonly string[]): readonly string[] {
  if (args[0] !== 'help') return args
  const asked = args.slice(1)
  const names = asked.filter((arg) => !arg.startsWith('-'))
  // With `--help` behind it, an unknown command would pass for a question about all of them.
  const known = commandOf(program, names).split(' ').length === names.length + 1
  return known ? [...asked, '--help'] : asked
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

/** The command that was meant, as far as it was understood: its help is the one to read. */
function commandOf(program: Command, args: readonly string[]): string {
  let command = program
  const names = [program.name()]
  for (const arg of flags(args)) {
    const next = command.commands.find((one) => one.name() === arg)
    if (next === undefined) continue
    command = next
    names.push(arg)
  }
  return names.join(' ')
}
