// Keys for databases that order bytes. The contract orders keys by UTF-16 code units; UTF-8 does not: there the
// characters beyond U+FFFF, which are pairs of units from D800 to DFFF, come after U+E000 to U+FFFF instead of
// before. So the first bytes of the latter, EE and EF, are written as two that UTF-8 never uses and that come last.

const HIGH = /[\ue000-\uffff]/
/** No key contains this byte, so it ends the range of keys that begin with a prefix. */
const BEYOND = 0xff

/** The bytes of a key, ordered as its UTF-16 code units are; as many as in UTF-8, and mostly the same. */
export function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key)
  if (!HIGH.test(key)) return bytes
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] === 0xee) bytes[index] = 0xfd
    else if (bytes[index] === 0xef) bytes[index] = 0xfe
  }
  return bytes
}

/** The key of bytes that {@link keyBytes} made. */
export function keyOfBytes(given: Uint8Array): string {
  const bytes = Buffer.from(given)
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] === 0xfd) bytes[index] = 0xee
    else if (bytes[index] === 0xfe) bytes[index] = 0xef
  }
  return bytes.toString()
}

/**
 * The range of a list: from its first bytes on, and before its last ones.
 *
 * @throws {TypeError} For half of a surrogate pair, which no key has.
 */
export function listRange(prefix: string, after = ''): { readonly from: Buffer; readonly before: Buffer } {
  if (!prefix.isWellFormed() || !after.isWellFormed())
    throw new TypeError('Expected `prefix` and `after` without half of a surrogate pair.')
  const first = keyBytes(prefix)
  // Keys have no NUL, so these are the very next bytes.
  const next = Buffer.concat([keyBytes(after), Buffer.of(0)])
  return { from: after !== '' && Buffer.compare(next, first) > 0 ? next : first, before: Buffer.concat([first, Buffer.of(BEYOND)]) }
}
