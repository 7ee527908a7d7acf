// Tools that the provider executes itself: once they are offered nobody can stop a call of one, so the gates are asked
// before, by name alone, and a tool that is not allowed is not offered.

import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider'
import type { Refusal } from '../../src/lib/errors.ts'
import type { Scope } from '../../src/waist/scope.ts'

/** A call with the tools that may be offered, and a warning for each one that was taken out. */
export interface Offer {
  readonly params: LanguageModelV4CallOptions
  readonly warnings: readonly SharedV4Warning[]
}

/**
 * Asks the gates about every tool that the provider executes. A call without one stays as it is.
 *
 * @throws {Refusal} When the call demands a tool that may not be offered: its answer could only be an error, and paid.
 */
export async function offered(scope: Scope, params: LanguageModelV4CallOptions): Promise<Offer> {
  const { tools = [], toolChoice, ...rest } = params
  const refused = new Map<string, Refusal>()
  for (const { type, name } of tools) {
    const refusal = type === 'provider' ? await scope.decide({ kind: 'tool', resource: name }) : undefined
    if (refusal !== undefined) refused.set(name, refusal)
  }
  if (refused.size === 0) return { params, warnings: [] }
  const left = tools.filter(({ type, name }) => type !== 'provider' || !refused.has(name))
  const [first] = refused.values()
  if (toolChoice?.type === 'required' && left.length === 0) throw first!
  if (toolChoice?.type === 'tool' && refused.has(toolChoice.toolName)) throw refused.get(toolChoice.toolName)!
  return {
    params: left.length === 0 ? rest : { ...params, tools: left },
    warnings: [...refused].map(([name, { message }]) => ({
      type: 'other',
      message: `The tool \`${name}\` was not offered to the model. ${message}`,
    })),
  }
}
