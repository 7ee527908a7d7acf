// One call of a tool, behind the gates at the place where the tool itself is called: after other middleware and the
// tool's schema made of the arguments what they like, and anew each time that somebody repeats the call.

import { interopSafeParseAsync, isInteropZodSchema } from '@langchain/core/utils/types'
import { interrupt, isGraphBubbleUp } from '@langchain/langgraph'
import { canonicalJson } from '../src/lib/canonical-json.ts'
import { findRefusal, type Refusal } from '../src/lib/errors.ts'
import type { ScopeSource } from '../src/waist/scope.ts'
import { runTool, type ToolAmounts } from './guard-function.ts'
import { toolResult } from './langchain-shared.ts'
import { CALL, drained, twin } from './langgraph-tools.ts'

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
  /** Throws the interrupt that asks for an approval, whatever other middleware made of it. */
  throwIfPaused(): void
}

/** A call of a tool, where it is made. */
export interface PassedCall {
  readonly name: string
  readonly id: string | undefined
  readonly args: unknown
  /** As the model, or other middleware, sent them. */
  readonly sent: unknown
}

/** The member of a request that carries its gate to the middleware inside. */
export const GATE: unique symbol = Symbol('holdfast.gate')

interface ToolConfig {
  readonly toolCall?: { readonly id?: string; readonly args?: unknown }
  readonly signal?: AbortSignal
}

interface AnyTool {
  readonly name: string
  readonly responseFormat?: string
  readonly schema?: unknown
  readonly [CALL]?: (args: unknown, manager: unknown, config: ToolConfig) => unknown
  invoke?(input: unknown, config?: ToolConfig): Promise<unknown>
}

/** Makes the gate of one call. */
export function createGate(source: ScopeSource, { toolAmounts, ask = 'message' }: GateOptions): Gate {
  const twins = new WeakSet()
  let paused: { readonly error: unknown } | undefined

  /** Throws LangGraph's interrupt. It returns once the graph was resumed without an approval: the answer is no. */
  function askFor(name: string, args: unknown, { details, message }: Refusal): void {
    try {
      interrupt<ApprovalRequest>({ tool: name, args, argsHash: details.argsHash!, agent: details.agent!, reason: message })
    } catch (error) {
      if (isGraphBubbleUp(error)) paused = { error }
      throw error
    }
  }

  const gate: Gate = {
    over<T>(tool: T): T {
      if (typeof tool !== 'object' || tool === null || twins.has(tool)) return tool
      const guarded = guardedTwin(tool as unknown as AnyTool, gate)
      twins.add(guarded)
      return guarded as T
    },
    async pass(call, body) {
      // Who repeats a call that waits for a person would ask the person again.
      gate.throwIfPaused()
      const { name } = call
      const args = hashable(call)
      try {
        return await runTool(source, { name, args, amounts: toolAmounts }, body, (refusal) => {
          if (ask === 'interrupt' && refusal.code === 'ERR_APPROVAL_REQUIRED') askFor(name, args, refusal)
          return toolResult(refusal, call)
        })
      } catch (error) {
        // A refusal from inside of a tool, of a model that it calls, is an answer, too: thrown, it would be repeated,
        // and its text for operators shown to the model.
        const refusal = isGraphBubbleUp(error) ? undefined : findRefusal(error)
        if (refusal === undefined) throw error
        return toolResult(refusal, call)
      }
    },
    throwIfPaused() {
      if (paused !== undefined) throw paused.error
    },
  }
  return gate
}

function guardedTwin(tool: AnyTool, gate: Gate): AnyTool {
  const { name, schema } = tool
  if (typeof tool[CALL] === 'function') {
    return twin(tool, {
      async [CALL](args: unknown, manager: unknown, config: ToolConfig = {}) {
        config.signal?.throwIfAborted()
        const { id, args: sent } = config.toolCall ?? {}
        let ran = false
        const result = await gate.pass({ name, id, args, sent }, async () => {
          const own = await drained(await tool[CALL]!(args, manager, config), manager)
          ran = true
          return own
        })
        return ran || tool.responseFormat !== 'content_and_artifact' ? result : [result, undefined]
      },
    })
  }
  if (typeof tool.invoke !== 'function' || typeof name !== 'string') return tool
  return twin(tool, {
    async invoke(input: unknown, config?: ToolConfig) {
      config?.signal?.throwIfAborted()
      const { type, args, id } = (input ?? {}) as { type?: unknown; args?: unknown; id?: string }
      const sent = type === 'tool_call' ? args : input
      return gate.pass({ name, id, args: await parsed(schema, sent), sent }, () => tool.invoke!(input, config))
    },
  })
}

/** What a runnable will make of its arguments; it says itself what is wrong with those that do not fit. */
async function parsed(schema: unknown, args: unknown): Promise<unknown> {
  if (!isInteropZodSchema(schema)) return args
  const result = await interopSafeParseAsync(schema, args)
  return result.success ? result.data : args
}

/** A schema may make what is no JSON, such as a date; then what it was made from is asked about. */
function hashable({ args = null, sent }: PassedCall): unknown {
  // A tool of one string is called with `{ input }`, so that rules on arguments have a name for it.
  const given = typeof args === 'string' ? { input: args } : args
  try {
    canonicalJson(given, { dropUndefined: true })
    return given
  } catch {
    return sent ?? given
  }
}
