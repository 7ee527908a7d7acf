// The default import, since an old Node that lacks `hash` should come as far as the message of runtime.ts.
import crypto from 'node:crypto'

/** A random identifier of 128 bits, 22 characters of base64url: unique without asking anyone. */
export function newId(): string {
  return crypto.randomBytes(16).toString('base64url')
}

/** SHA-256 of text (as UTF-8) or bytes, 43 characters of base64url. */
export function sha256(data: string | Uint8Array): string {
  return crypto.hash('sha256', data, 'base64url')
}
