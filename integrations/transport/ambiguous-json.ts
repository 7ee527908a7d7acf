// JSON that two servers would read in two ways. A request is bounded by what `JSON.parse` makes of it and sent as its
// caller wrote it, so what has more than one reading has no bound.

/**
 * Fields that decide what a request costs. A server written in Go takes a name in any case, so `MAX_TOKENS` is one of them.
 *
 * @see https://github.com/golang/go/issues/11673 (2026-11-22: a name in another case is accepted, and the last one counts)
 */
const COSTLY: ReadonlySet<string> = new Set([
  'model',
  'models',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'max_tool_calls',
  'n',
  'best_of',
  'echo',
  'stream',
  'service_tier',
  'messages',
  'input',
  'prompt',
  'tools',
  'thinking',
])

/**
 * Says why an object cannot be relied on. `twice`: an object in it has a field twice, of which `JSON.parse` takes the last
 * and others the first. `case`: a field that decides the cost is written in another case. `deep`: it can be read and not
 * be written, as it has to be with a cap in it.
 *
 * @param text - The JSON that `parsed` was read from.
 * @returns `undefined` for what has one reading.
 */
export function ambiguityOf(text: string, parsed: object): 'twice' | 'case' | 'deep' | undefined {
  for (const name of Object.keys(parsed)) if (!COSTLY.has(name) && COSTLY.has(folded(name))) return 'case'
  const written = writtenAgain(parsed)
  if (written === undefined) return 'deep'
  // As SDKs write it, which is quick to tell.
  return written === text || colonsIn(text) === membersIn(parsed) ? undefined : 'twice'
}

/** As Go folds names: `K` (Kelvin) and `ſ` (long s) are letters of ASCII then. */
function folded(name: string): string {
  return name.toUpperCase().toLowerCase()
}

function writtenAgain(parsed: object): string | undefined {
  try {
    return JSON.stringify(parsed)
  } catch {
    // The stack has an end, and a value may be nested beyond it.
    return undefined
  }
}

const [QUOTE, BACKSLASH, COLON] = [34, 92, 58]

/** Colons outside of texts: each member of an object has one. */
function colonsIn(text: string): number {
  let colons = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === COLON) colons += 1
    if (code !== QUOTE) continue
    for (at += 1; text.charCodeAt(at) !== QUOTE; at++) if (text.charCodeAt(at) === BACKSLASH) at += 1
  }
  return colons
}

/** Members of all objects in a value, however deep: a list of what is left rather than a call for each level. */
function membersIn(value: object): number {
  const left: unknown[] = [value]
  let members = 0
  while (left.length > 0) {
    const one = left.pop()
    if (typeof one !== 'object' || one === null) continue
    const parts = Object.values(one) as readonly unknown[]
    if (!Array.isArray(one)) members += parts.length
    for (const part of parts) left.push(part)
  }
  return members
}
