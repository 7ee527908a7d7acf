// A tool with something around its calls, in the form that it had: what its schema has read is what is judged, and what
// it gets. The given tool stays as it is.

import { AsyncLocalStorage } from 'node:async_hooks'
import { ToolMessage } from '@langchain/core/messages'
import { raceWithSignal } from '@langchain/core/runnables'
import { ToolInputParsingException, isRunnableToolLike } from '@langchain/core/tools'
import { interopSafeParseAsync, isInteropZodSchema } from '@langchain/core/utils/types'
import type { TaskConfig } from './task.ts'

/** Where LangChain's tools keep what they do; `invoke` puts the schema, the callbacks and the message around it. */
const CALL = '_call'

/** The members of a tool that are used. */
export interface AnyTool {
  readonly name: string
  readonly responseFormat?: string
  readonly schema?: unknown
  readonly [CALL]?: (args: unknown, manager: unknown, config: TaskConfig) => unknown
  readonly invoke?: (this: AnyTool, input: unknown, config?: TaskConfig) => Promise<unknown>
}

/** One call of a tool. */
export interface ToolCall {
  readonly tool: AnyTool
  /** As the tool gets them: its schema has read them. */
  readonly args: unknown
  /** As the model, or a caller by hand, sent them, when that is known. */
  readonly sent: unknown
  readonly callId: string | undefined
  readonly config: TaskConfig
  /** What the tool does. */
  readonly body: () => Promise<unknown>
}

/** The same tool with `around` around each of its calls; `undefined` for what does not run here, such as a tool of a provider. */
export function withCalls(tool: AnyTool, around: (call: ToolCall) => Promise<unknown>): AnyTool | undefined {
  if (typeof tool.name !== 'string') return undefined
  if (typeof tool[CALL] === 'function') return structured(tool, around)
  return typeof tool.invoke === 'function' ? runnable(tool, around) : undefined
}

function structured(tool: AnyTool, around: (call: ToolCall) => Promise<unknown>): AnyTool {
  const { invoke } = tool
  const copy = twin(tool, {
    async [CALL](args: unknown, manager: unknown, config: TaskConfig = {}) {
      const body = async (): Promise<unknown> => drained(await whileWanted(config, async () => tool[CALL]!(args, manager, config)), manager)
      return around({ tool, args, sent: sentTo(tool, config), callId: config.toolCall?.id, config, body })
    },
    ...(invoke === undefined ? {} : { invoke: remembering(tool, invoke) }),
  })
  return withAccessorsOf(tool, copy)
}

/** A runnable as a tool reads its arguments only when it gets a whole call: here that is done before it is asked. */
function runnable(tool: AnyTool, around: (call: ToolCall) => Promise<unknown>): AnyTool {
  return twin(tool, {
    async invoke(input: unknown, config: TaskConfig = {}) {
      if (!isCall(input))
        return around({
          tool,
          args: input,
          sent: undefined,
          callId: undefined,
          config,
          body: () => whileWanted(config, async () => tool.invoke!(input, config)),
        })
      const args = await parsed(tool, input.args)
      // What is given without a call around it is not read again, so what was judged is what the tool gets.
      const given = isRunnableToolLike(tool) ? args : { ...input, args }
      return around({
        tool,
        args,
        sent: input.args,
        callId: input.id,
        config,
        body: () => whileWanted(config, async () => tool.invoke!(given, config)),
      })
    },
  })
}

/**
 * Runs a tool for as long as its caller is there. LangChain's own race with the signal is lost when the signal was
 * aborted before it began: its promise never settles then, and what was held for the call would stay held.
 */
async function whileWanted({ signal }: TaskConfig, run: () => Promise<unknown>): Promise<unknown> {
  signal?.throwIfAborted()
  return raceWithSignal(run(), signal)
}

function isCall(input: unknown): input is { readonly args?: unknown; readonly id?: string } {
  return (input as { readonly type?: unknown } | null | undefined)?.type === 'tool_call'
}

/** @throws {ToolInputParsingException} For arguments that do not fit, as LangChain does, and for such as would be taken for a call. */
async function parsed({ schema }: AnyTool, args: unknown): Promise<unknown> {
  if (!isInteropZodSchema(schema)) return args
  const result = await interopSafeParseAsync(schema, args)
  if (result.success && !isCall(result.data)) return result.data
  throw new ToolInputParsingException('Received tool input did not match expected schema', JSON.stringify(args))
}

/** What the innermost tool was invoked with, which its schema has read by the time that it is called. */
const invoked = new AsyncLocalStorage<{ readonly tool: AnyTool; readonly sent: unknown; taken: boolean }>()

function remembering(tool: AnyTool, invoke: NonNullable<AnyTool['invoke']>) {
  return async function (this: AnyTool, input: unknown, config?: TaskConfig): Promise<unknown> {
    const sent = isCall(input) ? input.args : input
    try {
      return await invoked.run({ tool, sent, taken: false }, () => invoke.call(this, input, config))
    } catch (error) {
      throw explained(tool, error)
    }
  }
}

/** A copy has none of the private members of a class. What `_call` does is done by the tool itself, which has them. */
function explained({ name }: AnyTool, error: unknown): unknown {
  if (!(error instanceof TypeError) || !/\bprivate (?:member|field|method|accessor)|^Receiver must be/.test(error.message)) return error
  const message = `The tool \`${name}\` uses private members (\`#…\`) in an \`invoke\` or \`call\` of its own, which a copy of it does not have. Use them in \`_call\` only, or make them \`private\` ones of TypeScript.`
  return new TypeError(message, { cause: error })
}

/**
 * A config is handed on to what a tool calls, so its tool call may be that of the tool around this one. What the tool
 * was invoked with goes first, once: the tool may call itself in other ways.
 */
function sentTo(tool: AnyTool, { toolCall }: TaskConfig): unknown {
  const known = invoked.getStore()
  if (known?.tool !== tool || known.taken) return toolCall?.args
  known.taken = true
  return known.sent
}

/** The same tool with other methods. Own members are copied, so that frameworks that spread a tool see them all. */
export function twin<T extends object>(tool: T, methods: object): T {
  const copy = Object.create(Object.getPrototypeOf(tool) as object, Object.getOwnPropertyDescriptors(tool)) as T
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(copy, name, { value, configurable: true, enumerable: false, writable: true })
  }
  return copy
}

/** What a class computes, such as a schema, may come from private members: it is read from the tool itself. */
function withAccessorsOf<T extends object>(tool: T, copy: T): T {
  for (let type = tool; type !== Object.prototype && type !== null; type = Object.getPrototypeOf(type) as T) {
    for (const [name, member] of Object.entries(Object.getOwnPropertyDescriptors(type))) {
      if (!('get' in member) || member.set !== undefined || Object.hasOwn(copy, name)) continue
      Object.defineProperty(copy, name, { get: () => Reflect.get(tool, name) as unknown, configurable: true, enumerable: false })
    }
  }
  return copy
}

/** A tool may stream: it is at work until its last piece, so its hold lasts until then. */
async function drained(result: unknown, manager: unknown): Promise<unknown> {
  if (typeof result !== 'object' || result === null || !(Symbol.asyncIterator in result) || !('next' in result)) return result
  const steps = result as AsyncGenerator
  const { handleToolEvent } = (manager ?? {}) as { handleToolEvent?: (piece: unknown) => Promise<void> }
  for (;;) {
    const step = await steps.next()
    if (step.done === true) return step.value
    await handleToolEvent?.call(manager, step.value)
  }
}

/** An answer that is not the tool's own, in the form that its caller expects. */
export function answer({ tool, callId }: ToolCall, text: string, status: 'error' | 'success'): unknown {
  const content = callId === undefined ? text : new ToolMessage({ content: text, status, tool_call_id: callId, name: tool.name })
  return tool[CALL] !== undefined && tool.responseFormat === 'content_and_artifact' ? [content, undefined] : content
}
