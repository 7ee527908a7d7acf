// The one written rule for names (agents, tasks, tools, budget segments, counters):
// 1 to 128 UTF-16 code units of well-formed, NFC-normalised Unicode, without control characters, line or
// paragraph separators, `/`, `*`, `"` or `\`, without white space at either end, and none of `.`, `..`, `__proto__`.
// So JSON writes a name without escapes: V8 may read an escaped key as another one (nodejs/node#63785).

/** Longest name, in UTF-16 code units. */
export const MAX_NAME_LENGTH = 128

/** Most segments in a budget path. */
export const MAX_PATH_DEPTH = 8

const FORBIDDEN = /[\p{Cc}\p{Zl}\p{Zp}/*"\\]/u
const RESERVED = new Set(['.', '..', '__proto__'])

/** Says what is wrong with a name, or nothing when it is right. */
function faultOf(name: string): string | undefined {
  if (name.length === 0) return 'it is empty'
  if (name.length > MAX_NAME_LENGTH) return `it is ${name.length} characters long; the limit is ${MAX_NAME_LENGTH}`
  if (!name.isWellFormed()) return 'it holds half of a surrogate pair'
  if (FORBIDDEN.test(name)) return 'it holds a control character, a line break, `/`, `*`, `"` or `\\`'
  if (RESERVED.has(name)) return `\`${name}\` is reserved`
  if (name.trim() !== name) return 'it begins or ends with white space'
  if (name.normalize('NFC') !== name) return 'it is not NFC-normalised; call .normalize() on it'
  return undefined
}

/**
 * Throws unless `value` follows the rule for names at the top of this file.
 *
 * @throws {TypeError} Naming the field and what is wrong with it.
 */
export function assertName(field: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw new TypeError(`Expected \`${field}\` to be a name, got ${typeof value}.`)
  const fault = faultOf(value)
  if (fault !== undefined) throw new TypeError(`Expected \`${field}\` to be a name, got ${JSON.stringify(value.slice(0, 40))}: ${fault}.`)
}

/**
 * Splits a budget path such as `acme/report-7/writer` into its names.
 *
 * @throws {RangeError} When it is deeper than 8 segments.
 * @throws {TypeError} When a segment is not a name.
 */
export function parsePath(field: string, value: unknown): readonly string[] {
  if (typeof value !== 'string') throw new TypeError(`Expected \`${field}\` to be a path such as 'acme/report-7', got ${typeof value}.`)
  if (value.length > MAX_PATH_DEPTH * (MAX_NAME_LENGTH + 1))
    throw new RangeError(`Expected \`${field}\` to be at most ${MAX_PATH_DEPTH} names long, got ${value.length} characters.`)
  const names = value.split('/')
  if (names.length > MAX_PATH_DEPTH)
    throw new RangeError(`Expected \`${field}\` to be at most ${MAX_PATH_DEPTH} levels deep, got ${names.length}.`)
  for (const name of names) assertName(field, name)
  return names
}
