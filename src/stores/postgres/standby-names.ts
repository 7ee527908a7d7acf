// What `synchronous_standby_names` says, read by the grammar of the server (its manual, "Replication", and its scanner):
//
//   [FIRST] n (name, ...)    the first n of the list that are connected must have a commit before it is acknowledged
//   ANY n (name, ...)        any n of the list
//   name, ...                the first one
//
// A name is an identifier, a number, anything in double quotes, or `*`, which is any standby. Case does not matter.

/** How many of which standbys must have a commit before it is acknowledged. */
export interface StandbyNames {
  readonly method: 'first' | 'any'
  /** At least 1. */
  readonly count: number
  /** At least one; in lower case, each once. `*` stands for any standby. */
  readonly names: readonly string[]
}

const TOKEN =
  /[ \t\n\r\f\v]*(?:(?<quoted>"(?:[^"]|"")*")|(?<number>\d+)|(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)|(?<mark>[*(),]))/y

interface Token {
  readonly kind: 'name' | 'number' | 'first' | 'any' | '(' | ')' | ','
  readonly text: string
}

/** Reads the setting; `undefined` for what no server would take, and for an empty one. */
export function parseStandbyNames(setting: string): StandbyNames | undefined {
  const tokens = tokensOf(setting)
  if (tokens === undefined) return undefined
  const kinds = tokens.map(({ kind }) => kind)
  const skip = kinds[0] === 'first' || kinds[0] === 'any' ? 1 : 0
  if (skip === 0 && kinds[1] !== '(') return listOf(tokens, 'first', 1)
  const count = Number(tokens[skip]?.text)
  if (kinds[skip] !== 'number' || count < 1 || kinds[skip + 1] !== '(' || kinds.at(-1) !== ')') return undefined
  return listOf(tokens.slice(skip + 2, -1), kinds[0] === 'any' ? 'any' : 'first', count)
}

function listOf(tokens: readonly Token[], method: StandbyNames['method'], count: number): StandbyNames | undefined {
  const isList =
    tokens.length % 2 === 1 && tokens.every(({ kind }, at) => (at % 2 === 1 ? kind === ',' : kind === 'name' || kind === 'number'))
  if (!isList) return undefined
  const names = tokens.filter((_, at) => at % 2 === 0).map(({ text }) => text.toLowerCase())
  return { method, count, names: [...new Set(names)] }
}

function tokensOf(setting: string): readonly Token[] | undefined {
  const text = setting.replace(/[ \t\n\r\f\v]+$/, '')
  const tokens: Token[] = []
  for (TOKEN.lastIndex = 0; TOKEN.lastIndex < text.length;) {
    const found = TOKEN.exec(text)
    if (found === null) return undefined
    const { quoted, number, word, mark } = found.groups!
    tokens.push(tokenOf({ quoted, number, word, mark }))
  }
  return tokens
}

function tokenOf({ quoted, number, word, mark }: Record<'quoted' | 'number' | 'word' | 'mark', string | undefined>): Token {
  if (quoted !== undefined) return { kind: 'name', text: quoted.slice(1, -1).replaceAll('""', '"') }
  if (number !== undefined) return { kind: 'number', text: number }
  if (mark !== undefined) return { kind: mark === '*' ? 'name' : (mark as '(' | ')' | ','), text: mark }
  const keyword = word!.toLowerCase()
  return { kind: keyword === 'first' || keyword === 'any' ? keyword : 'name', text: word! }
}
