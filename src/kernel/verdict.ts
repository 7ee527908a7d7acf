// From the verdict of a gate to what `begin` makes of it.

import { Refusal } from '../lib/errors.ts'
import type { ProposedAction } from '../waist/action.ts'
import type { Verdict } from '../waist/gate.ts'

/** What a verdict that is no yes says to whoever asked. */
export function refusalOf(verdict: Exclude<Verdict, { verdict: 'allow' }>, { agent, resource, argsHash }: ProposedAction): Refusal {
  const about = { agent, resource, argsHash }
  if (verdict.verdict === 'ask') {
    const call = JSON.stringify({ agent, tool: resource, argsHash, by: 'you', expiresInMs: 600_000 })
    const wouldPass = `kernel.approve(${call})`
    return new Refusal('ERR_APPROVAL_REQUIRED', verdict.reason, { ...about, wouldPass })
  }
  const { code = 'ERR_PERMISSION_DENIED', reason, wouldPass, modelMessage } = verdict
  return new Refusal(code, reason, {
    ...about,
    ...(wouldPass === undefined ? {} : { wouldPass }),
    ...(modelMessage === undefined ? {} : { modelMessage }),
  })
}

/** The action, narrowed to so many output tokens. */
export function capped(action: ProposedAction, maxOutputTokens: number | undefined): ProposedAction {
  if (maxOutputTokens === undefined || action.output === undefined) return action
  const { tokens, minTokens } = action.output
  const most = Math.min(tokens, Math.max(1, Math.floor(maxOutputTokens)))
  return { ...action, output: { ...action.output, tokens: most, minTokens: Math.min(minTokens, most) } }
}
