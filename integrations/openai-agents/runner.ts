// A `Runner` of the Agents SDK under one scope: its models, and the agents that are given to it, with all that they reach.

import type { ModelProvider, Runner } from '@openai/agents'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { createAgentGuard, isGuardedAgent, type AgentGuard, type AnyAgent, type GuardAgentOptions } from './agent.ts'
import { inFrame, type Frame } from './frame.ts'
import { closeFrom, start, type AgentHandoffs } from './handoffs.ts'
import { guardModel, guardModelProvider } from './model.ts'

/** Options of {@link guardRunner}. */
export interface GuardRunnerOptions extends GuardAgentOptions {
  /**
   * What agents get when work is handed to them, by their name: it is moved out of the budget of who hands over, and
   * what is left comes back when they hand on, or the run ends. Agents that are not named spend from that budget itself.
   * @default none gets a budget of its own
   */
  readonly handoffs?: AgentHandoffs
}

const guards = new WeakMap<object, AgentGuard>()

/**
 * Returns a runner like this one under a scope; the given runner, and the agents, stay as they are. Each `run` is one
 * run of the scope: models are held, tools are behind the gates, handoffs move money.
 *
 * `run` rejects with the `Refusal` that a model call met; a stream ends with it. It takes the agents as they are, but a
 * `RunState` only of a guarded one: `RunState.fromString(guardAgent(agent, runner), text)`.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} For a runner whose class takes other settings than `Runner`.
 */
export function guardRunner<R extends Runner>(runner: R, source?: ScopeSource, options: GuardRunnerOptions = {}): R {
  const { handoffs = {}, ...agentOptions } = options
  const { toolAmounts: _amounts, ...modelOptions } = agentOptions
  const { config } = runner
  const modelProvider: ModelProvider = guardModelProvider(config.modelProvider, source, modelOptions)
  const model = typeof config.model === 'object' ? guardModel(config.model, source, modelOptions) : config.model
  const Class = runner.constructor as new (settings: object) => R
  const guarded = new Class({ ...config, modelProvider, model })
  if ((guarded.config as { readonly modelProvider: unknown } | undefined)?.modelProvider !== modelProvider)
    throw new TypeError(
      `\`${Class.name}\` does not take its settings as \`Runner\` does: give it guardModelProvider(…) and guardAgent(…) yourself.`,
    )
  const { eventEmitter, traceOverrides } = runner as unknown as { eventEmitter: unknown; traceOverrides: unknown }
  const agents = createAgentGuard(source, agentOptions, handoffs)
  guards.set(guarded, agents)
  const run = Class.prototype.run as (...args: unknown[]) => Promise<unknown>
  return Object.assign(guarded, {
    eventEmitter,
    traceOverrides,
    async run(agent: AnyAgent, input: unknown, ...rest: unknown[]) {
      const scope = scopeOf(source)
      const twin = agents.guard(agent)
      const frame: Frame = { source, steps: [{ agent: twin.name, scope, handoff: undefined }], refused: new Map() }
      return scope.enter(() =>
        inFrame(frame, async () => {
          const atWork = agentOfState(input, agents, handoffs)
          if (atWork !== undefined && atWork !== twin.name) await start(frame, atWork, handoffs)
          return ending(frame, () => run.call(guarded, twin, input, ...rest))
        }),
      )
    },
  })
}

/**
 * Returns an agent like this one, with everything that it reaches: models that are set on it, tools, those of MCP
 * servers, agents that it hands off to. The given agent stays as it is. {@link guardRunner} does this by itself; by hand it is
 * for `asTool`, for restoring a `RunState`, and for runners with {@link guardModelProvider}.
 *
 * A model that is only a name comes from the provider of whoever runs the agent: under `run()` of the SDK its calls are
 * held nowhere, unless `setDefaultModelProvider(guardModelProvider(new OpenAIProvider(), scope))` came first. The same
 * goes for agents that guardrails run by themselves.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`; or a guarded runner, for
 *   the very agent that it runs.
 * @throws {TypeError} For a tool that cannot be put behind the gates, such as an agent as a tool that is not guarded.
 */
export function guardAgent<A extends AnyAgent>(agent: A, source?: ScopeSource | Runner, options: GuardAgentOptions = {}): A {
  const guard = source === undefined ? undefined : guards.get(source)
  return (guard ?? createAgentGuard(source as ScopeSource, options)).guard(agent)
}

/** Sees to it that what was handed out has come back when the run is over, which a stream is when it is `completed`. */
async function ending(frame: Frame, run: () => Promise<unknown>): Promise<unknown> {
  const end = (): Promise<void> => closeFrom(frame, 1)
  let streams = false
  try {
    const result = await run()
    const { completed } = result as { readonly completed?: Promise<unknown> }
    if (completed === undefined) return result
    streams = true
    const ended = settled(completed, end)
    // Who does not wait for it, reads of its error in the stream.
    ended.catch(() => {})
    return Object.defineProperty(result as object, 'completed', { get: () => ended, configurable: true })
  } finally {
    if (!streams) await end()
  }
}

async function settled(completed: Promise<unknown>, end: () => Promise<void>): Promise<unknown> {
  try {
    return await completed
  } finally {
    await end()
  }
}

/** The agent that a state goes on with. */
function agentOfState(input: unknown, agents: AgentGuard, handoffs: AgentHandoffs): string | undefined {
  const { _currentAgent: agent } = (typeof input === 'object' && input !== null ? input : {}) as { readonly _currentAgent?: AnyAgent }
  if (agent === undefined) return undefined
  const isKnown = agents.has(agent) || (isGuardedAgent(agent) && Object.keys(handoffs).length === 0)
  // Its tools, and what they were asked for, would run past the gates.
  if (!isKnown) throw new TypeError('The RunState is not of an agent of this runner: RunState.fromString(guardAgent(agent, runner), text).')
  return agent.name
}
