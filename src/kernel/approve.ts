// An approval: a person lets one agent make one call of one tool, once.

import { assertAmount } from '../lib/amounts.ts'
import { HoldfastError } from '../lib/errors.ts'
import { assertName } from '../lib/names.ts'
import { approvalKey, type Approval } from '../guardian/auth-guardian.ts'
import type { Committer } from '../stores/group.ts'
import type { Log } from '../waist/log.ts'
import { assertResource } from './scope.ts'

const MAX_APPROVAL_MS = 30 * 24 * 3_600_000

/**
 * Records an approval, and writes it where the guardian looks.
 *
 * @throws {TypeError} {RangeError} Naming the field. @throws {HoldfastError} `ERR_STORE`
 */
export async function approve(approval: Approval & { expiresInMs: number }, committer: Committer, log: Log): Promise<void> {
  const { agent, tool, argsHash, by, expiresInMs } = approval
  for (const [field, value] of Object.entries({ agent, by })) assertName(`approval.${field}`, value)
  assertResource('approval.tool', tool)
  if (!/^[\w-]{43}$/.test(argsHash))
    throw new TypeError(`\`approval.argsHash\` must be the hash that the refusal carries, got ${JSON.stringify(argsHash)}.`)
  assertAmount('approval.expiresInMs', expiresInMs)
  if (expiresInMs > MAX_APPROVAL_MS) throw new RangeError(`\`approval.expiresInMs\` may be at most ${MAX_APPROVAL_MS} (30 days).`)
  const now = await committer.store.now()
  log.append('approve', { agent, tool, argsHash, by, expiresAtMs: now + expiresInMs })
  const result = await committer.commit({ set: [{ key: approvalKey(approval), value: { by, atMs: now }, expiresAtMs: now + expiresInMs }] })
  if (result.outcome !== 'ok') throw new HoldfastError('ERR_STORE', `The approval was not written: ${result.outcome}.`)
}
