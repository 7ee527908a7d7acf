// What readers of requests share: JSON of a caller, of which nothing is known yet.

import { asFields, type Fields } from '../usage/disjoint.ts'

/** @throws {TypeError} For anything but an object. */
export function bodyFields(body: unknown): Fields {
  const fields = asFields(body)
  if (fields === undefined) throw new TypeError('Expected `body` to be the parsed JSON object of a request.')
  return fields
}

/** A list as it is, anything else as a list of itself; text and nothing as an empty one. */
export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : value == null || typeof value === 'string' ? [] : [value]
}
