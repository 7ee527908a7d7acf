// Where an integration takes its scope from: what it was given, or the ambient one of `scope.enter`.

import { ambient } from '../../src/lib/ambient.ts'
import { Refusal } from '../../src/lib/errors.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'

/**
 * The scope that an action belongs to.
 *
 * @throws {Refusal} `ERR_NO_SCOPE` when there is none: nothing runs outside of a budget.
 */
export function scopeOf(source: ScopeSource): Scope {
  const scope = findScope(source)
  if (scope !== undefined) return scope
  const wouldPass = 'scope.enter(() => …) around the call, or pass a scope to the integration'
  throw new Refusal('ERR_NO_SCOPE', `This call belongs to no scope, so it has no budget. Add ${wouldPass}.`, { wouldPass })
}

/** The same scope, or `undefined` when there is none: for whoever only looks on. */
export function findScope(source: ScopeSource): Scope | undefined {
  return (typeof source === 'function' ? source() : source) ?? (ambient().scope as Scope | undefined)
}
