// Constraints on the arguments of a tool. A closed grammar, with three answers: what cannot be judged (a value of
// another type, a path that climbs) is `unclear`, which never helps to allow and never helps to dodge a denial.

import { inspect } from 'node:util'
import type { Constraint } from '../waist/rule.ts'

const MAX_VALUES = 1_000
const SEPARATORS = new Set(['/', ':', '.', '@', '-', '_', '#', '?', '&', '=', ' ', '\\'])

/**
 * Throws unless a constraint is one of the grammar above.
 *
 * @throws {TypeError} Naming the field.
 */
export function assertConstraint(field: string, constraint: unknown): asserts constraint is Constraint {
  if (isValue(constraint)) return
  const known = (constraint ?? {}) as Record<string, unknown>
  const keys = typeof constraint === 'object' ? Object.keys(known).sort().join() : ''
  if (keys === 'oneOf' && Array.isArray(known['oneOf']) && known['oneOf'].length <= MAX_VALUES && known['oneOf'].every(isValue)) return
  if (keys === 'prefix' && typeof known['prefix'] === 'string') {
    if (SEPARATORS.has(known['prefix'].slice(-1))) return
    throw new TypeError(`\`${field}\`: a prefix must end at a separator such as '/', got ${JSON.stringify(known['prefix'])}.`)
  }
  const { min = -Infinity, max = Infinity } = known as { min?: number; max?: number }
  if (['min', 'max', 'max,min'].includes(keys) && Object.values(known).every((bound) => Number.isFinite(bound)) && min <= max) return
  throw new TypeError(
    `\`${field}\` must be a value, { oneOf } of up to ${MAX_VALUES} values, { prefix } or { min, max }, got ${inspect(constraint, { depth: 1 })}.`,
  )
}

function isValue(value: unknown): boolean {
  return value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)
}

/** Whether an argument meets a constraint; `unclear` when it is nothing that the constraint can judge. */
export type Match = 'yes' | 'no' | 'unclear'

/** Compares an argument with a constraint. A missing one, and `null`, meets nothing but an exact `null`. */
export function meets(value: unknown, constraint: Constraint): Match {
  if (value === undefined || constraint === null) return value === constraint ? 'yes' : 'no'
  if (typeof constraint !== 'object') return meetsOneOf(value, [constraint])
  if ('oneOf' in constraint) return meetsOneOf(value, constraint.oneOf)
  if (value === null) return 'no'
  if ('prefix' in constraint) return meetsPrefix(value, constraint.prefix)
  if (typeof value !== 'number' || !Number.isFinite(value)) return 'unclear'
  const { min = -Infinity, max = Infinity } = constraint
  return value >= min && value <= max ? 'yes' : 'no'
}

function meetsOneOf(value: unknown, allowed: readonly unknown[]): Match {
  if (allowed.includes(value)) return 'yes'
  return value === null || allowed.length === 0 || allowed.some((one) => typeof one === typeof value && one !== null) ? 'no' : 'unclear'
}

function meetsPrefix(value: unknown, prefix: string): Match {
  if (typeof value !== 'string') return 'unclear'
  if (!value.startsWith(prefix)) return climbs(value) ? 'unclear' : 'no'
  return climbs(value.slice(prefix.length)) ? 'unclear' : 'yes'
}

const ESCAPES = /(?:%[0-9a-f]{2})+/gi
const NO_ESCAPE = /%u[0-9a-f]{4}/i
/** Printable ASCII without a dot or an escape: most of what arguments are, told at once. */
const LEADS_NOWHERE = /^[\x20-\x24\x26-\x2d\x2f-\x7e]*$/
const DOTS = /^[.\s\p{Default_Ignorable_Code_Point}]+$/u

/**
 * Whether a path or URL could lead elsewhere than its prefix says: by `.` or `..` between separators (also those
 * that end a URL's path), by an escape or a compatibility form of either, or by a control character.
 */
function climbs(path: string): boolean {
  if (LEADS_NOWHERE.test(path)) return false
  const plain = path.normalize('NFKC').replaceAll(ESCAPES, unescape).normalize('NFKC')
  if (/\p{Cc}/u.test(plain) || NO_ESCAPE.test(plain)) return true
  return plain.split(/[/\\?#;:]/).some((segment) => segment.includes('.') && DOTS.test(segment))
}

/** What escapes stand for; a control character where they hide a separator, a dot or an escape, or are no UTF-8. */
function unescape(escapes: string): string {
  const text = Buffer.from(escapes.replaceAll('%', ''), 'hex').toString()
  return /[./\\%\ufffd]/.test(text.normalize('NFKC')) ? '\0' : text
}
