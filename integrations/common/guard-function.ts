// A function that a model may call, behind the gates. Frameworks differ in how a denial is said; not in this.

import type { Amounts } from '../../src/lib/amounts.ts'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from './scope-source.ts'

/** What calls of tools count as, by the tool's name: `{ send_email: { emails: 1 } }`. */
export type ToolAmounts = Readonly<Record<string, Amounts>>

/** What one call of a tool counts as. Its name may be the invention of a model, such as `constructor`. */
export function toolWorst(name: string, amounts: ToolAmounts | undefined): Amounts {
  return amounts !== undefined && Object.hasOwn(amounts, name) ? amounts[name]! : {}
}

/**
 * Asks the gates, runs `fn`, and settles what was held for it.
 *
 * @param onRefusal - What to do instead when the kernel says no. An error of `fn` itself is thrown as it is.
 */
export async function runTool<T, R>(
  source: ScopeSource,
  tool: { readonly name: string; readonly args: unknown; readonly amounts: ToolAmounts | undefined },
  fn: () => T | PromiseLike<T>,
  onRefusal: (refusal: Refusal) => R,
): Promise<T | R> {
  let started = false
  try {
    const worst = toolWorst(tool.name, tool.amounts)
    return await scopeOf(source).run({ kind: 'tool', resource: tool.name, args: tool.args, worst }, async () => {
      started = true
      return fn()
    })
  } catch (error) {
    // A refusal from inside the tool (a model that it calls) is the tool's error; frameworks know what to do with it.
    const refusal = started ? undefined : findRefusal(error)
    if (refusal === undefined) throw error
    return onRefusal(refusal)
  }
}
