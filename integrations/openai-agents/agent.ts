// An agent of the Agents SDK with everything that it reaches: its model, its tools, those of its MCP servers, and the
// agents it hands off to, around circles too. The given agents stay as they are.

import type { Model, Runner, Tool } from '@openai/agents'
import type { ScopeSource } from '../../src/waist/scope.ts'
import type { ToolAmounts } from '../common/guard-function.ts'
import { frameOf } from './frame.ts'
import { takeOver, type AgentHandoffs } from './handoffs.ts'
import { guardModel, guardModelProvider, isGuardedModel, type GuardModelOptions } from './model.ts'
import { guardAgentTool, guardTool, type ToolGuard } from './tools.ts'

/** Options of {@link guardAgent}. */
export interface GuardAgentOptions extends GuardModelOptions {
  /** What calls of tools count as. @default nothing but the permission to make them */
  readonly toolAmounts?: ToolAmounts
}

/** Any agent: what its context and its output are makes no difference here. */
export type AnyAgent = Parameters<Runner['run']>[0]
type AnyContext = Parameters<AnyAgent['getPrompt']>[0]
type ToolOptions = Parameters<AnyAgent['asTool']>[0]
type AnyHandoff = Exclude<AnyAgent['handoffs'][number], AnyAgent>

/** Guards agents, each once, so that agents which hand to each other go on doing so. */
export interface AgentGuard {
  guard<A extends AnyAgent>(agent: A): A
  /** Whether an agent was made by this guard. */
  has(agent: object): boolean
}

const guardedAgents = new WeakSet<object>()

/** Whether an agent is a guarded one. */
export function isGuardedAgent(agent: object): boolean {
  return guardedAgents.has(agent)
}

/** Makes a guard for agents of one scope. */
export function createAgentGuard(
  source: ScopeSource,
  { toolAmounts, ...options }: GuardAgentOptions,
  handoffs: AgentHandoffs = {},
): AgentGuard {
  const tools: ToolGuard = { source, toolAmounts }
  const models = new WeakMap<object, Model>()
  const known = new WeakMap<object, AnyAgent>()
  const made = new WeakSet<object>()

  function modelOf(model: string | Model): string | Model {
    if (typeof model === 'string' || isGuardedModel(model)) return model
    const guarded = models.get(model) ?? guardModel(model, source, options)
    models.set(model, guarded)
    return guarded
  }

  /** A copy that shares the listeners of the original: `clone` of the SDK makes an agent that nobody listens to. */
  function guard<A extends AnyAgent>(agent: A): A {
    if (isGuardedAgent(agent)) return agent
    const already = known.get(agent)
    if (already !== undefined) return already as A
    const twin = Object.assign(Object.create(Object.getPrototypeOf(agent) as object) as AnyAgent, agent)
    // Before the agents that it hands to, one of which may hand back.
    known.set(agent, twin)
    guardedAgents.add(twin)
    made.add(twin)
    twin.model = modelOf(agent.model)
    twin.tools = agent.tools.map((tool) => guardTool(tool as Tool, tools)) as typeof agent.tools
    twin.handoffs = agent.handoffs.map((target) => (isHandoff(target) ? target.clone({ agent: guard(target.agent) }) : guard(target)))
    return Object.assign(twin, methodsOf(twin, Object.getPrototypeOf(agent))) as A
  }

  /** The settings of the run inside of a tool: a provider or a model that is set there stands before that of the runner. */
  function guardedConfig(toolOptions: ToolOptions): ToolOptions {
    const { modelProvider, model } = toolOptions.runConfig ?? {}
    if (modelProvider === undefined && model === undefined) return toolOptions
    const runConfig = {
      ...toolOptions.runConfig,
      ...(modelProvider === undefined ? {} : { modelProvider: guardModelProvider(modelProvider, source, options) }),
      ...(model === undefined ? {} : { model: modelOf(model) }),
    }
    return { ...toolOptions, runConfig }
  }

  function methodsOf(twin: AnyAgent, own: AnyAgent): object {
    return {
      getMcpTools: async (...args: Parameters<AnyAgent['getMcpTools']>) =>
        (await own.getMcpTools.apply(twin, args)).map((tool) => guardTool(tool as Tool, tools)),
      getEnabledHandoffs: async (context: AnyContext) => {
        const enabled = await own.getEnabledHandoffs.call(twin, context)
        const refused = frameOf(source)?.refused
        return enabled.filter(({ agentName }) => refused?.has(agentName) !== true).map((one) => budgeted(one, twin))
      },
      clone: (config: object) => guard(own.clone.call(twin, config)),
      asTool: (toolOptions: ToolOptions) => guardAgentTool(own.asTool.call(twin, guardedConfig(toolOptions)), tools),
      async getSystemPrompt(context: AnyContext) {
        const prompt = await own.getSystemPrompt.call(twin, context)
        const notes = frameOf(source)?.refused.values() ?? []
        return [prompt, ...notes].filter((text) => text !== undefined && text !== '').join('\n\n') || prompt
      },
    }
  }

  /** The handoff with its budget: moved before anything else happens, so that `onHandoff` runs only for one that is made. */
  function budgeted(handoff: AnyHandoff, giver: AnyAgent): AnyHandoff {
    return handoff.clone({
      async onInvokeHandoff(context: AnyContext, args: string) {
        const frame = frameOf(source)
        if (frame !== undefined && !(await takeOver(frame, handoff.agentName, handoffs))) return giver
        const target = await handoff.onInvokeHandoff(context, args)
        return guard(target)
      },
    })
  }

  return { guard, has: (agent) => made.has(agent) }
}

function isHandoff(target: unknown): target is AnyHandoff {
  return typeof (target as { onInvokeHandoff?: unknown }).onInvokeHandoff === 'function'
}
