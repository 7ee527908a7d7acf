// RFC 8785 (JSON Canonicalization Scheme): one value, one text, so that hashes of it can be compared.
// Ours rather than the package because it is measurably faster and says where in the value the fault is;
// the RFC's own vectors are in the test.

/** Deepest nesting that is written; a cycle ends here too. */
export const MAX_JSON_DEPTH = 256

/** A JSON value, as RFC 8259 has it. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** How {@link canonicalJson} treats what JSON has no text for. */
export interface CanonicalJsonOptions {
  /**
   * Leave out object members whose value is `undefined`, as `JSON.stringify` does.
   * @default false: they are an error
   */
  readonly dropUndefined?: boolean
}

/**
 * Writes a value as canonical JSON.
 *
 * @throws {TypeError} Naming the path of what is not JSON: `undefined`, a function, a BigInt, `NaN`, an
 *   infinity, half of a surrogate pair, a Date or any other object that is not plain.
 * @throws {RangeError} For nesting beyond 256 levels, and so for cycles.
 * @see https://www.rfc-editor.org/rfc/rfc8785
 */
export function canonicalJson(value: unknown, options: CanonicalJsonOptions = {}): string {
  return write(value, [], options.dropUndefined === true)
}

/**
 * Checks that a value survives being stored: JSON, and the same value when it is read back.
 *
 * @returns Its canonical text.
 * @throws {TypeError} As {@link canonicalJson}, and for `-0`, which JSON reads back as `0`.
 */
export function assertJson(field: string, value: unknown): string {
  try {
    return write(value, [], false, true)
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) error.message = `\`${field}\` is not JSON: ${error.message}`
    throw error
  }
}

type Path = (string | number)[]

// Strings that need no escape are most of what is hashed; for them quotes are all that JSON adds.
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/

function write(value: unknown, path: Path, dropUndefined: boolean, exact = false): string {
  switch (typeof value) {
    case 'string':
      return writeString(value, path)
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`${String(value)} at ${where(path)}.`)
      if (exact && Object.is(value, -0)) throw new TypeError(`-0 at ${where(path)} would be read back as 0; write 0.`)
      return String(value === 0 ? 0 : value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (path.length >= MAX_JSON_DEPTH)
        throw new RangeError(`nested deeper than ${MAX_JSON_DEPTH} levels at ${where(path.slice(0, 8))}… (a cycle?).`)
      return Array.isArray(value) ? writeArray(value, path, dropUndefined, exact) : writeObject(value, path, dropUndefined, exact)
    default:
      throw new TypeError(`a value of type ${typeof value} at ${where(path)}.`)
  }
}

function writeString(value: string, path: Path): string {
  if (PLAIN.test(value)) return `"${value}"`
  if (!value.isWellFormed()) throw new TypeError(`half of a surrogate pair at ${where(path)}.`)
  return JSON.stringify(value)
}

function writeArray(value: readonly unknown[], path: Path, dropUndefined: boolean, exact: boolean): string {
  let text = '['
  for (let index = 0; index < value.length; index++) {
    path.push(index)
    text += (index === 0 ? '' : ',') + write(value[index], path, dropUndefined, exact)
    path.pop()
  }
  return `${text}]`
}

function writeObject(value: object, path: Path, dropUndefined: boolean, exact: boolean): string {
  if (!isPlainObject(value)) {
    throw new TypeError(
      `an object of class ${(value.constructor as { name?: string } | undefined)?.name ?? 'unknown'} at ${where(path)}; pass plain JSON.`,
    )
  }
  let text = '{'
  for (const key of Object.keys(value).sort()) {
    const member = (value as Record<string, unknown>)[key]
    if (dropUndefined && member === undefined) continue
    path.push(key)
    text += `${text.length === 1 ? '' : ','}${writeString(key, path)}:${write(member, path, dropUndefined, exact)}`
    path.pop()
  }
  return `${text}}`
}

/** Whether a value is an object of no class: what it has, it has itself. Arrays are none. */
export function isPlainObject(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === null || prototype === Object.prototype) return true
  // A plain object of another realm (a vm context, a worker's message) has another Object.prototype.
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, 'isPrototypeOf')
}

function where(path: Path): string {
  return path.length === 0
    ? 'the top'
    : `$${path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step.slice(0, 40)}`)).join('')}`
}
