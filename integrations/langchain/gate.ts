// One call of a tool, behind the gates at the place where the tool itself is called: after other middleware and the
// tool's schema made of the arguments what they like, and anew each time that somebody repeats the call.

import { interrupt, isGraphBubbleUp } from '@langchain/langgraph'
import { findRefusal, type Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { toolWorst, type ToolAmounts } from '../common/guard-function.ts'
import { askedArguments, isGuardedTool, toolResult } from './shared.ts'
import { withCalls, type AnyTool } from '../langgraph/twin.ts'
import { scopeOf } from '../common/scope-source.ts'

/** The value of the interrupt of a call that has to be approved. */
export interface ApprovalRequest {
  readonly tool: string
  /** As the tool would get them. */
  readonly args: unknown
  /** For `kernel.approve`. */
  readonly argsHash: string
  /** For `kernel.approve`. */
  readonly agent: string
  /** For the person who decides. */
  readonly reason: string
}

/** What is asked of the gates. */
export interface GateOptions {
  readonly toolAmounts?: ToolAmounts | undefined
  readonly ask?: 'message' | 'interrupt' | undefined
}

/** The gates of one call of an agent, through all of its middleware. */
export interface Gate {
  /** The tool behind the gates; what is none, or is behind them, as it is. */
  over<T>(tool: T): T
  /** Runs `body` when the gates let it; a refusal is the answer. */
  pass(call: PassedCall, body: () => unknown): Promise<unknown>
  /** The same around other middleware: when that makes this very call inside, once, it has been asked and counted. */
  passAround(call: PassedCall, body: () => unknown): Promise<unknown>
  /** Throws what ends the run, such as the interrupt that asks for an approval, whatever other middleware made of it. */
  throwIfEnded(): void
}

/** A call of a tool, where it is made. */
export interface PassedCall {
  readonly name: string
  readonly id: string | undefined
  readonly args: unknown
  /** As the model, or other middleware, sent them. */
  readonly sent: unknown
  /** Aborted, it no longer waits in line for what it counts as. */
  readonly signal: AbortSignal | undefined
}

/** The member of a request that carries its gate to the middleware inside. */
export const GATE: unique symbol = Symbol('holdfast.gate')

/** Makes the gate of one call. */
export function createGate(source: ScopeSource, { toolAmounts, ask = 'message' }: GateOptions): Gate {
  const twins = new WeakSet()
  let ended: { readonly error: unknown } | undefined
  /** What was asked for around other middleware, and has not been run inside. */
  let asked: string | undefined

  /** Throws LangGraph's interrupt. It returns once the graph was resumed without an approval: the answer is no. */
  function askFor(name: string, args: unknown, { details, message }: Refusal): void {
    try {
      interrupt<ApprovalRequest>({ tool: name, args, argsHash: details.argsHash!, agent: details.agent!, reason: message })
    } catch (error) {
      if (isGraphBubbleUp(error)) ended = { error }
      throw error
    }
  }

  async function passOnce(call: PassedCall, body: (text: string) => unknown): Promise<unknown> {
    // Who repeats a call that waits for a person would ask the person again.
    gate.throwIfEnded()
    const { name, signal } = call
    const [args, text] = askedArguments(call)
    const key = JSON.stringify([name, text])
    let started = asked === key
    const run = async (): Promise<unknown> => {
      started = true
      return body(key)
    }
    try {
      if (started) {
        asked = undefined
        return await run()
      }
      const action = { kind: 'tool', resource: name, args, worst: toolWorst(name, toolAmounts) }
      return await scopeOf(source).run(action, run, undefined, undefined, { signal })
    } catch (error) {
      // A refusal from inside of a tool, of a model that it calls, is an answer, too: thrown, it would be repeated,
      // and its text for operators shown to the model.
      const refusal = isGraphBubbleUp(error) ? undefined : findRefusal(error)
      if (refusal === undefined) throw error
      if (!started && ask === 'interrupt' && refusal.code === 'ERR_APPROVAL_REQUIRED') askFor(name, args, refusal)
      return toolResult(refusal, call)
    }
  }

  const gate: Gate = {
    over<T>(tool: T): T {
      if (typeof tool !== 'object' || tool === null || twins.has(tool) || isGuardedTool(tool)) return tool
      const guarded = withCalls(
        tool as unknown as AnyTool,
        async ({ tool: { name, responseFormat }, args, sent, callId: id, config, body }) => {
          config.signal?.throwIfAborted()
          let ran = false
          const result = await gate.pass({ name, id, args, sent, signal: config.signal }, async () => {
            const answer = await body()
            ran = true
            return answer
          })
          return ran || responseFormat !== 'content_and_artifact' ? result : [result, undefined]
        },
      )
      if (guarded === undefined) return tool
      twins.add(guarded)
      return telling(guarded, (error) => (ended = { error })) as T
    },
    pass: (call, body) => passOnce(call, body),
    passAround: (call, body) =>
      passOnce(call, (key) => {
        asked = key
        return body()
      }),
    throwIfEnded() {
      if (ended !== undefined) throw ended.error
    },
  }
  return gate
}

/** The guarded tool; that it cannot run as a copy is for the developer, and nothing that a model could mend. */
function telling(tool: AnyTool, onMisuse: (error: unknown) => void): AnyTool {
  const run = tool.invoke?.bind(tool)
  const invoke: AnyTool['invoke'] = async (input, config) => {
    try {
      return await run?.(input, config)
    } catch (error) {
      if (error instanceof TypeError && error.message.includes('uses private members')) onMisuse(error)
      throw error
    }
  }
  return Object.defineProperty(tool, 'invoke', { value: invoke, configurable: true, enumerable: false, writable: true })
}
