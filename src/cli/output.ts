// What every command hands back, and how it reaches the terminal: a text for people or one JSON document for
// programs on stdout, what went wrong on stderr, and the exit code.

import type { Command } from 'commander'
import { HoldfastError } from '../lib/errors.ts'
import { dataBeside, type Place } from './store-address.ts'
import { createStyle, visible, wantsColor, type Style } from './text.ts'

/** Options that stand before or after every command. */
export interface GlobalOptions extends Place {
  readonly json?: true
  /** False for `--no-color`. */
  readonly color: boolean
}

/** What went wrong: `{"error":{"code","message"}}` on stderr under `--json`. */
export interface Fault {
  /** A code of {@link HoldfastError}, `ERR_USAGE`, `ERR_RUNTIME`, or the code of the system's error. */
  readonly code: string
  readonly message: string
}

/** What a command found. */
export interface Report {
  /** The document that `--json` prints. */
  readonly json: object
  /** The same for people; ends with a newline. */
  text(style: Style): string
  /** Set when the exit code is 1. */
  readonly fault?: Fault | undefined
}

/** Makes `work` the action of a command: its report is printed, and decides the exit code. */
export function reports(command: Command, work: (options: GlobalOptions) => Promise<Report>): void {
  command.action(async () => {
    const given = command.optsWithGlobals<GlobalOptions>()
    // Beside another store its chains lie elsewhere, unless somebody says where.
    const isGiven = command.getOptionValueSourceWithGlobals('data') !== 'default'
    const options = isGiven ? given : { ...given, data: dataBeside(given.store, given.data) }
    const report = await work(options)
    const style = createStyle(wantsColor(options.color, process.stdout.isTTY, process.env))
    // Before anything is written: a reader that stops early ends the process with this code.
    process.exitCode = report.fault === undefined ? 0 : 1
    process.stdout.write(options.json ? `${JSON.stringify(report.json, null, 2)}\n` : report.text(style))
    if (report.fault !== undefined) printFault(report.fault, options.json === true)
  })
}

/** Says on stderr what went wrong. */
export function printFault({ code, message }: Fault, asJson: boolean): void {
  process.stderr.write(
    asJson ? `${JSON.stringify({ error: { code, message } })}\n` : `holdfast: ${message.split('\n').map(visible).join('\n')}\n`,
  )
}

/** What is known of an error that ended a command. */
export function faultOf(error: unknown): Fault {
  if (HoldfastError.isInstance(error)) return { code: error.code, message: error.message }
  if (!(error instanceof Error)) return { code: 'ERR_UNEXPECTED', message: String(error) }
  const { code } = error as NodeJS.ErrnoException
  return { code: typeof code === 'string' ? code : 'ERR_UNEXPECTED', message: error.message }
}
