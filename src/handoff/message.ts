// The text of a handoff, as one agent sends it to another and a person reads it in a transcript:
//
//   [HANDOFF]
//   Instruction: Analyze monthly sales by product category
//   Context: Using the export of November.
//     A second line of a value is indented by two spaces.
//   [/HANDOFF]
//
// Every line of a value but its first is indented, so no text inside can end the block or begin a field.

/** What a handoff says. */
export interface HandoffMessage {
  readonly instruction: string
  readonly context?: string
  readonly constraints?: string
  readonly expectedOutput?: string
  readonly from?: string
  readonly to?: string
  /** Id of the handoff in the store. */
  readonly id?: string
  /** What the receiver may spend, for people: `$0.50, 1000 tokens`. */
  readonly budget?: string
}

const FIELDS = {
  id: 'Id',
  from: 'From',
  to: 'To',
  budget: 'Budget',
  instruction: 'Instruction',
  context: 'Context',
  constraints: 'Constraints',
  expectedOutput: 'Expected Output',
} as const satisfies Record<keyof HandoffMessage, string>
type Field = keyof typeof FIELDS

const BEGIN = '[HANDOFF]'
const END = '[/HANDOFF]'
const INDENT = '  '
/** Longest block, in UTF-16 code units. */
export const MAX_HANDOFF_LENGTH = 1_048_576

/**
 * Writes a handoff as a block of text. `parseHandoff` reads back exactly what was written, whatever the texts
 * hold.
 *
 * @throws {TypeError} When a field is not text, or there is no instruction.
 * @throws {RangeError} When the block would be longer than 1,048,576 characters.
 */
export function formatHandoff(message: HandoffMessage): string {
  const lines = [BEGIN]
  for (const [field, label] of Object.entries(FIELDS) as [Field, string][]) {
    const text: unknown = message[field]
    if (text === undefined && field !== 'instruction') continue
    if (typeof text !== 'string') throw new TypeError(`Expected \`${field}\` of a handoff to be text, got ${typeof text}.`)
    const [first = '', ...rest] = text.split('\n')
    lines.push(first === '' ? `${label}:` : `${label}: ${first}`, ...rest.map((line) => `${INDENT}${line}`))
  }
  const block = [...lines, END].join('\n')
  if (block.length > MAX_HANDOFF_LENGTH)
    throw new RangeError(`A handoff may be ${MAX_HANDOFF_LENGTH} characters long, this one is ${block.length}.`)
  return block
}

/**
 * Reads the first handoff block of a text; what stands around it is ignored.
 *
 * @returns `undefined` when the text has no block.
 * @throws {TypeError} For a block that does not end, has no instruction, or a line that belongs to no field.
 */
export function parseHandoff(text: string): HandoffMessage | undefined {
  const lines = text.split('\n')
  const begin = lines.indexOf(BEGIN)
  if (begin < 0) return undefined
  const end = lines.indexOf(END, begin)
  if (end < 0) throw new TypeError(`The handoff block does not end: there is no line ${END}.`)
  const message: { [K in Field]?: string } = {}
  let current: Field | undefined
  for (const line of lines.slice(begin + 1, end)) {
    if (current !== undefined && line.startsWith(INDENT)) {
      message[current] += `\n${line.slice(INDENT.length)}`
      continue
    }
    const [field, value] = readField(line)
    if (field in message) throw new TypeError(`The handoff block has \`${FIELDS[field]}\` twice.`)
    message[field] = value
    current = field
  }
  const { instruction, ...rest } = message
  if (instruction === undefined) throw new TypeError('The handoff block has no `Instruction`.')
  return { instruction, ...rest }
}

function readField(line: string): readonly [Field, string] {
  const known = (Object.entries(FIELDS) as [Field, string][]).find(([, label]) => line.startsWith(`${label}:`))
  if (known === undefined) {
    const fields = Object.values(FIELDS).join(', ')
    throw new TypeError(
      `The handoff block has a line that is no field: ${JSON.stringify(line.slice(0, 80))}. Fields are ${fields}; a further line of a value is indented by two spaces.`,
    )
  }
  const [field, label] = known
  const value = line.slice(label.length + 1)
  return [field, value.startsWith(' ') ? value.slice(1) : value]
}
