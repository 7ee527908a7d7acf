// The default import, since an old Node that lacks `hash` should come as far as the message of runtime.ts.
import crypto from 'node:crypto'

const ID_BYTES = 16
// Asking the system for randomness costs more than all the rest of an id; one answer serves many.
const pool = Buffer.alloc(ID_BYTES * 256)
let used = pool.length

/** A random identifier of 128 bits, 22 characters of base64url: unique without asking anyone. */
export function newId(): string {
  if (used === pool.length) {
    crypto.randomFillSync(pool)
    used = 0
  }
  return pool.toString('base64url', used, (used += ID_BYTES))
}

/**
 * Random text straight from the operating system, 16 characters of base64url. Slower than an id, and unlike an
 * id not repeated by a copy of this process (a snapshot of its machine that is started twice).
 */
export function newNonce(): string {
  return crypto.randomBytes(12).toString('base64url')
}

/** SHA-256 of text (as UTF-8) or bytes, 43 characters of base64url. */
export function sha256(data: string | Uint8Array): string {
  return crypto.hash('sha256', data, 'base64url')
}
