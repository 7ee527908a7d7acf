// What is on record of calls that went past holdfast.

import { chainsOf, newestRecords } from './chain-files.ts'
import type { Check } from './doctor-machine.ts'
import { plural, timeOf } from './text.ts'

/** Most escapes that are looked at. */
const MAX_ESCAPES = 1_000

/** Looks for `escape` events in the chains of a data directory. */
export function checkEscapes(data: string): Check {
  const lines = newestRecords(data, chainsOf(data), MAX_ESCAPES, ({ kind, type }) => kind === 'event' && type === 'escape')
  const escapes = lines.flatMap((line) => ('record' in line ? [line.record] : []))
  const last = escapes.at(-1)
  if (last === undefined)
    return { id: 'escapes', result: 'ok', message: 'no escape is on record; watchEscapes (holdfast/escapes) reports what it sees' }
  const count = escapes.length === MAX_ESCAPES ? `${MAX_ESCAPES} or more reports` : plural(escapes.length, 'report')
  return {
    id: 'escapes',
    result: 'warn',
    message: `${count} of calls that went past holdfast or were counted differently\nthe last, ${timeOf(last.t)}: ${JSON.stringify(last['message'])}`,
    todo: 'See all of them: holdfast audit tail -n 1000. Ways around and what closes them: docs/escapes.md',
  }
}
