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

/** A call of a tool, as the gates see it. */
export interface GatedCall {
  readonly name: string
  readonly args: unknown
  readonly amounts: ToolAmounts | undefined
  /** Aborted, the call no longer waits in line for what it counts as: nothing starts for a caller who has left. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Asks the gates, runs `fn`, and settles what was held for it.
 *
 * @param onRefusal - What to do instead when the kernel says no. An error of `fn` itself is thrown as it is.
 */
export async function runTool<T, R>(
  source: ScopeSource,
  tool: GatedCall,
  fn: () => T | PromiseLike<T>,
  onRefusal: (refusal: Refusal) => R,
): Promise<T | R> {
  let started = false
  try {
    const worst = toolWorst(tool.name, tool.amounts)
    const body = async (): Promise<T> => {
      started = true
      return fn()
    }
    tool.signal?.throwIfAborted()
    const action = { kind: 'tool', resource: tool.name, args: tool.args, worst }
    return await scopeOf(source).run(action, body, undefined, undefined, { signal: tool.signal })
  } catch (error) {
    // A refusal from inside the tool (a model that it calls) is the tool's error; frameworks know what to do with it.
    const refusal = started ? undefined : findRefusal(error)
    if (refusal === undefined) throw error
    return onRefusal(refusal)
  }
}

/** A function of a caller's, of which nothing more is known. */
export type AnyFunction = (...args: unknown[]) => unknown

/**
 * Puts functions that a model may call behind the gates, for loops that call them by hand. A refusal is
 * returned as text for the model; an error of the function is thrown as it is.
 *
 * @param functions - By name of the tool; the first parameter is the parsed arguments.
 */
export function guardFunctions<F extends Readonly<Record<string, (args: never) => unknown>>>(
  source: ScopeSource,
  functions: F,
  toolAmounts?: ToolAmounts,
): { readonly [K in keyof F]: (...args: Parameters<F[K]>) => Promise<Awaited<ReturnType<F[K]>> | string> } {
  const guarded = Object.entries(functions).map(([name, fn]) => [name, guardNamed(name, fn as AnyFunction, source, toolAmounts)])
  return Object.fromEntries(guarded) as never
}

/** The function of this name behind the gates; `readArgs` makes what the rules see of its first parameter. */
export function guardNamed(
  name: string,
  fn: AnyFunction,
  source: ScopeSource,
  amounts: ToolAmounts | undefined,
  readArgs: (first: unknown) => unknown = (first) => first,
): AnyFunction {
  const guarded: AnyFunction = (...args) =>
    runTool(
      source,
      { name, args: readArgs(args[0]) ?? null, amounts },
      () => fn(...args),
      (refusal) => refusal.toModelMessage(),
    )
  return Object.defineProperty(guarded, 'name', { value: name })
}
