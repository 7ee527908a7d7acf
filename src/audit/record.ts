// One record of an audit chain, as a line of JSON:
//
//   {"agent":"researcher",…,"chain":"<boot>","kind":"intent","prev":"<hash>","seq":7,"t":1700000000000,"v":1,"h":"<hash>"}
//
// Everything before `,"h":` is RFC 8785 canonical JSON, and `h` is SHA-256 over a domain line and exactly
// that: every field is under the hash, and there is one way only to write a record.

import { isUtf8 } from 'node:buffer'
import { canonicalJson, type Json } from '../lib/canonical-json.ts'
import { sha256 } from '../lib/ids.ts'
import type { LogKind } from '../waist/log.ts'

/** Version of the record format. */
export const RECORD_VERSION = 1
const DOMAIN = `holdfast/audit/v${RECORD_VERSION}\n`
const HASH_MARK = ',"h":"'
/** SHA-256 in base64url between its mark and the end of the line. */
const TAIL_LENGTH = HASH_MARK.length + 43 + 2

/** One record; beside these, each kind has its own fields. */
export interface AuditRecord {
  readonly v: typeof RECORD_VERSION
  /** Identity of the chain: the boot id of the process that writes it. */
  readonly chain: string
  /** 0, 1, 2, … without gaps. */
  readonly seq: number
  /** Hash of the record before; the chain's own identity for the first one. */
  readonly prev: string
  /** Unix ms by the clock of the process. */
  readonly t: number
  readonly kind: LogKind
  readonly [field: string]: Json
}

/** Writes a record as a line, without its newline. */
export function encodeRecord(record: AuditRecord): { readonly line: string; readonly hash: string } {
  const body = canonicalJson(record)
  const hash = sha256(DOMAIN + body)
  return { line: `${body.slice(0, -1)}${HASH_MARK}${hash}"}`, hash }
}

/** Reads a line back, or says what is wrong with it. As bytes it must be UTF-8: decoding would hide other bytes. */
export function decodeRecord(
  given: string | Uint8Array,
): { readonly record: AuditRecord; readonly hash: string } | { readonly fault: string } {
  if (typeof given !== 'string' && !isUtf8(given)) return { fault: 'it is not UTF-8' }
  const line = typeof given === 'string' ? given : Buffer.from(given.buffer, given.byteOffset, given.byteLength).toString()
  const tailAt = line.length - TAIL_LENGTH
  const hash = line.slice(tailAt + HASH_MARK.length, -2)
  const body = `${line.slice(0, Math.max(0, tailAt))}}`
  const ended = line.startsWith(HASH_MARK, tailAt) && line.endsWith('"}')
  let record: { readonly [field: string]: Json }
  try {
    // With its hash cut off it is JSON exactly when it is with it.
    record = JSON.parse(ended ? body : line) as typeof record
  } catch {
    return { fault: 'it is not JSON' }
  }
  if (!ended || typeof record !== 'object' || record === null) return { fault: 'it does not end with its hash' }
  if (record['v'] !== RECORD_VERSION)
    return { fault: `it has version ${JSON.stringify(record['v'])}; this version of holdfast reads ${RECORD_VERSION}` }
  let canonical: string
  try {
    canonical = canonicalJson(record)
  } catch (error) {
    // JSON has texts for what canonical JSON has not: half of a surrogate pair, 1e999, any depth.
    return { fault: `it has no canonical form: ${(error as Error).message}` }
  }
  if (sha256(DOMAIN + canonical) !== hash) return { fault: 'its hash does not match its content' }
  if (canonical !== body || Object.hasOwn(record, 'h')) return { fault: 'it is not written in canonical form' }
  return { record: record as AuditRecord, hash }
}
