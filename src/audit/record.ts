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
  return { line: `${body.slice(0, -1)},"h":"${hash}"}`, hash }
}

/** Reads a line back, or says what is wrong with it. As bytes it must be UTF-8: decoding would hide other bytes. */
export function decodeRecord(
  given: string | Uint8Array,
): { readonly record: AuditRecord; readonly hash: string } | { readonly fault: string } {
  if (typeof given !== 'string' && !isUtf8(given)) return { fault: 'it is not UTF-8' }
  const line = typeof given === 'string' ? given : Buffer.from(given.buffer, given.byteOffset, given.byteLength).toString()
  let parsed: { h?: unknown } & Record<string, Json>
  try {
    parsed = JSON.parse(line) as typeof parsed
  } catch {
    return { fault: 'it is not JSON' }
  }
  if (typeof parsed !== 'object' || parsed === null || typeof parsed.h !== 'string') return { fault: 'it has no hash' }
  const { h, ...record } = parsed
  if (record['v'] !== RECORD_VERSION)
    return { fault: `it has version ${JSON.stringify(record['v'])}; this version of holdfast reads ${RECORD_VERSION}` }
  let written: ReturnType<typeof encodeRecord>
  try {
    written = encodeRecord(record as AuditRecord)
  } catch (error) {
    // JSON has texts for what canonical JSON has not: half of a surrogate pair, 1e999, any depth.
    return { fault: `it has no canonical form: ${(error as Error).message}` }
  }
  if (written.hash !== h) return { fault: 'its hash does not match its content' }
  if (written.line !== line) return { fault: 'it is not written in canonical form' }
  return { record: record as AuditRecord, hash: h }
}
