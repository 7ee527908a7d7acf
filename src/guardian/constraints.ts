// Constraints on the arguments of a tool. A closed grammar: what is not understood does not match.

/** What a rule demands of one argument. */
export type Constraint =
  /** Exactly this value. */
  | string
  | number
  | boolean
  | null
  /** One of these values. */
  | { readonly oneOf: readonly (string | number | boolean | null)[] }
  /** A string below this prefix. The prefix ends at a separator, so that `/data/` never lets `/database` pass. */
  | { readonly prefix: string }
  /** A finite number within these bounds, both included. */
  | { readonly min?: number; readonly max?: number }

/** A schema as zod (3.24 and later), valibot and arktype have it: the Standard Schema interface. */
export interface StandardSchema {
  readonly '~standard': {
    readonly validate: (
      value: unknown,
    ) => { readonly issues?: readonly unknown[] | undefined } | Promise<{ readonly issues?: readonly unknown[] | undefined }>
  }
}

const SEPARATORS = new Set(['/', ':', '.', '@', '-', '_', '#', '?', '&', '=', ' ', '\\'])

/**
 * Throws unless a constraint is one of the grammar above.
 *
 * @throws {TypeError} Naming the field.
 */
export function assertConstraint(field: string, constraint: unknown): asserts constraint is Constraint {
  if (constraint === null || ['string', 'boolean'].includes(typeof constraint) || Number.isFinite(constraint)) return
  const known = (constraint ?? {}) as Record<string, unknown>
  const keys = typeof constraint === 'object' ? Object.keys(known).sort().join() : ''
  if (keys === 'oneOf' && Array.isArray(known['oneOf']) && known['oneOf'].length <= 1_000) return
  if (keys === 'prefix' && typeof known['prefix'] === 'string') {
    if (SEPARATORS.has(known['prefix'].slice(-1))) return
    throw new TypeError(`\`${field}\`: a prefix must end at a separator such as '/', got ${JSON.stringify(known['prefix'])}.`)
  }
  if (['min', 'max', 'max,min'].includes(keys) && Object.values(known).every((bound) => Number.isFinite(bound))) return
  throw new TypeError(`\`${field}\` must be a value, { oneOf }, { prefix } or { min, max }, got ${JSON.stringify(constraint)}.`)
}

/** Whether an argument meets a constraint. */
export function meets(value: unknown, constraint: Constraint): boolean {
  if (typeof constraint !== 'object' || constraint === null) return value === constraint
  if ('oneOf' in constraint) return constraint.oneOf.some((allowed) => allowed === value)
  if ('prefix' in constraint)
    return typeof value === 'string' && value.startsWith(constraint.prefix) && !climbs(value.slice(constraint.prefix.length))
  const { min = -Infinity, max = Infinity } = constraint
  return typeof value === 'number' && Number.isFinite(value) && value >= min && value <= max
}

/** Whether the rest of a path could lead out of its prefix: by `..`, by an escape of it, or by a control character. */
function climbs(rest: string): boolean {
  // eslint-disable-next-line no-control-regex
  if (/\p{Cc}/u.test(rest) || /%(?:2e|2f|5c|00)/i.test(rest)) return true
  return rest.split(/[/\\]/).some((segment) => segment.trim() === '..' || segment.trim() === '.')
}
