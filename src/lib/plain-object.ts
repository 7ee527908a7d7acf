// Options and declarations are plain objects: what they have, they have themselves.

import { inspect } from 'node:util'
import { isPlainObject } from './canonical-json.ts'

/**
 * Throws unless `value` is a plain object. A Map, or an object that got its members from a prototype, would look
 * like one without any: a rule without conditions.
 *
 * @throws {TypeError} Naming the field.
 */
export function assertPlainObject(field: string, value: unknown): void {
  if (!isPlainObject(value)) throw new TypeError(`\`${field}\` must be a plain object, got ${inspect(value, { depth: 0 })}.`)
}
