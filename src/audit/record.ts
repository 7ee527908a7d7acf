// One record of an audit chain, as a line of JSON:
//
//   {"agent":"researcher",…,"chain":"<boot>","kind":"intent","prev":"<hash>","seq":7,"t":1700000000000,"v":1,"h":"<hash>"}
//
// Everything before `,"h":` is RFC 8785 canonical JSON, and `h` is SHA-256 over a domain line and exactly
// that: every field is under the hash, and there is one way only to write a record.

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

/** Reads a line back, or says what is wrong with it. */
export function decodeRecord(line: string): { readonly record: AuditRecord; readonly hash: string } | { readonly fault: string } {
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
  const written = encodeRecord(record as AuditRecord)
  if (written.hash !== h) return { fault: 'its hash does not match its content' }
  if (written.line !== line) return { fault: 'it is not written in canonical form' }
  return { record: record as AuditRecord, hash: h }
}
