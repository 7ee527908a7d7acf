// A compiled graph whose nodes cannot lose a refusal. It takes a compiled graph rather than a builder, since that is
// what everything ends as: each form of `addNode`, default error handlers, prebuilt agents, supervisor and swarm.

import { AsyncLocalStorage } from 'node:async_hooks'
import { Command, Send } from '@langchain/langgraph'
import type { Amounts } from '../../src/lib/amounts.ts'
import { ambient } from '../../src/lib/ambient.ts'
import { Refusal, findRefusal } from '../../src/lib/errors.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { toolWorst } from '../common/guard-function.ts'
import { observed, type ObserverOptions } from '../langchain/observer.ts'
import { guardHandoffTools, runOnHandoff, type GraphHandoff } from './handoff.ts'
import { createGraphRun, currentPlace, endGraphRun, inAttempt, inGraphRun, type GraphRun } from './run.ts'
import { executionOf, inExecution, isBubbleUp, type TaskConfig } from './task.ts'
import { twin } from './twin.ts'
import { scopeOf } from '../common/scope-source.ts'

/** Options of {@link guardGraph}. */
export interface GuardGraphOptions extends ObserverOptions {
  /**
   * Agents, by the name of their node, that work on money of their own: it is moved out of the graph's budget when
   * the node starts, and what is left comes back when it ends. Models and tools of such an agent have to take the
   * scope that they run in: `guardFetch()`, `guardTools(tools)`. An agent in a graph that is a node belongs in the
   * `handoffs` of that graph, guarded by itself. @default every node spends from the graph's budget
   */
  readonly handoffs?: Readonly<Record<string, GraphHandoff>>
  /**
   * What one call of a `RemoteGraph` counts as, by the name of its node: `{ there: { runs: 1 } }`. It runs elsewhere, on
   * a budget of its own or on none, so a call of it is one action of the kind `remote` with these counters, and nothing
   * more is known of it here. @default nothing but the permission to make it
   */
  readonly remotes?: Readonly<Record<string, Amounts>>
}

/** Where every way to run a graph ends: `invoke`, `stream`, `streamEvents`, `batch`, as a step of a sequence. */
const STREAM = '_streamIterator'

interface Runnable {
  invoke(input: unknown, config?: TaskConfig): Promise<unknown>
}

interface RetryPolicy {
  readonly retryOn?: (error: unknown) => boolean
}

interface Node {
  bound: Runnable
  retryPolicy: RetryPolicy | undefined
  readonly isErrorHandler?: boolean
  getNode(): Runnable | undefined
}

/** The part of a compiled graph that is used. */
interface Graph {
  readonly lg_is_pregel: boolean
  readonly [STREAM]: (input: unknown, options?: unknown) => AsyncGenerator
  readonly checkpointer?: unknown
  nodes: Record<string, Node>
  retryPolicy: RetryPolicy | undefined
  withConfig(config: object): Graph
}

/**
 * Returns a graph like this one, on a budget; the given graph stays as it is.
 *
 * - `invoke`, `stream`, `streamEvents` and `batch` run inside of `scope.enter`, as one run. Inside of another
 *   guarded graph it belongs to that run, and to the scope that its node has there.
 * - A refusal in a node is thrown to the caller as itself, past retry policies (also such with a `retryOn` of
 *   yours) and error handlers; of refusals in parallel branches that come together, in the `AggregateError`. When the
 *   graph is resumed later, a node that was refused under an error handler runs again.
 * - Tools say their refusals to the model (see `guardTools`), and a node that catches one on purpose may go on. Then
 *   the graph returns what it made of that, since it was paid for, and `scope.refusal` has the refusal. One that
 *   ends the run is remembered: every later call of the run is refused as well.
 *
 * No money is in the state of the graph: `updateState` and time travel change nothing in a budget. What is run
 * again, by a resume, a retry or from an earlier checkpoint, is held and paid again.
 *
 * @param graph - A compiled graph; of `createAgent`, its `.graph`. Nodes that are compiled graphs are guarded like
 *   it; a graph that is called inside of a function is its own affair: guard it as well.
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 * @throws {TypeError} When `graph` is not a compiled graph of this process, or is guarded already, and for a handoff to
 *   what is no node of it, or to the agent that hands off.
 */
export function guardGraph<G extends object>(graph: G, source?: ScopeSource, options: GuardGraphOptions = {}): G {
  const given = graph as unknown as Graph
  if (!given.lg_is_pregel || typeof given[STREAM] !== 'function' || typeof given.withConfig !== 'function' || given.nodes === undefined)
    throw new TypeError('Expected a compiled graph: `new StateGraph(…).compile()`, or the `.graph` of an agent of `createAgent`.')
  if (guarded.has(given)) throw new TypeError('This graph is guarded already: guard the one that it was made of.')
  const { handoffs = {}, remotes = {} } = options
  assertNodes('handoffs', Object.keys(handoffs), Object.keys(given.nodes))
  assertNodes('remotes', Object.keys(remotes), Object.keys(given.nodes))
  if (typeof source === 'object') assertOthers(handoffs, source)
  return entering(guardNodes(given, options, true), source, options) as unknown as G
}

type Handoffs = Readonly<Record<string, GraphHandoff>>

/** An agent, or a remote graph, that is misspelt would work without limits of its own. */
function assertNodes(option: 'handoffs' | 'remotes', names: readonly string[], nodes: readonly string[]): void {
  const wrong = names.find((name) => !nodes.includes(name))
  if (wrong === undefined) return
  const known = nodes.filter((name) => !name.startsWith('__')).join('`, `')
  throw new TypeError(
    `\`${option}.${wrong}\`: this graph has no node \`${wrong}\`. It has \`${known}\`; an agent in a graph that is a node belongs in the \`handoffs\` of that graph.`,
  )
}

function assertOthers(handoffs: Handoffs, { agent }: Scope): void {
  if (Object.hasOwn(handoffs, agent))
    throw new TypeError(`\`handoffs.${agent}\`: \`${agent}\` is the agent that hands off, and cannot hand work to itself.`)
}

/** Graphs that are guarded: their nodes stay as they are in a graph around them. */
const guarded = new WeakSet<object>()

/** The same graph with guarded nodes. */
function guardNodes(graph: Graph, options: GuardGraphOptions, outermost: boolean): Graph {
  // Its own way to make a copy: a copy by hand would lack what the class keeps private.
  const copy = graph.withConfig({})
  const nodes = Object.entries(graph.nodes).map(([name, node]) => [name, guardNode(name, node, graph, options, outermost)])
  copy.nodes = Object.fromEntries(nodes) as Record<string, Node>
  copy.retryPolicy = withoutRefusals(graph.retryPolicy)
  return copy
}

function guardNode(name: string, node: Node, { checkpointer }: Graph, options: GuardGraphOptions, outermost: boolean): Node {
  const { handoffs = {} } = options
  const handoff = outermost && Object.hasOwn(handoffs, name) ? handoffs[name] : undefined
  const unsaved = checkpointer === false
  const copy: Node = twin(node, {
    getNode() {
      const runnable: Runnable | undefined = (Object.getPrototypeOf(node) as Node).getNode.call(copy)
      if (runnable === undefined) return undefined
      // The runnable and its writers: functions of conditional edges run in the task of the node that they leave.
      const invoke = (input: unknown, config: TaskConfig = {}): Promise<unknown> =>
        inExecution(executionOf(config, unsaved), async () => {
          try {
            const run = (): Promise<unknown> => runnable.invoke(input, config)
            return await inAttempt(config, outermost, () => runOnHandoff(name, handoff, input, config, run))
          } catch (error) {
            throw isBubbleUp(error) ? error : (findRefusal(error) ?? error)
          }
        })
      return Object.create(runnable, { invoke: { value: invoke } }) as Runnable
    },
  })
  copy.bound = guardBound(name, node, options)
  copy.retryPolicy = withoutRefusals(node.retryPolicy)
  return copy
}

function guardBound(name: string, { bound, isErrorHandler }: Node, options: GuardGraphOptions): Runnable {
  if (isErrorHandler === true) return refusing(bound)
  const graph = bound as unknown as Partial<Graph>
  if (guarded.has(bound)) return bound
  if (graph.lg_is_pregel === true && typeof graph.withConfig === 'function' && graph.nodes !== undefined)
    return guardNodes(graph as Graph, options, false) as unknown as Runnable
  if (graph.lg_is_pregel === true) return guardRemote(name, bound, options)
  return options.handoffs === undefined ? bound : guardHandoffTools(bound, options.handoffs)
}

/** A graph that runs elsewhere: what is known here is that it is called. */
function guardRemote(name: string, remote: Runnable, { remotes }: GuardGraphOptions): Runnable {
  const { graphId } = remote as { readonly graphId?: unknown }
  const resource = typeof graphId === 'string' ? graphId : name
  const action = { kind: 'remote', resource, worst: toolWorst(name, remotes) }
  const invoke = async (input: unknown, config: TaskConfig = {}): Promise<unknown> =>
    scopeOf(undefined).run(action, async () => remote.invoke(input, config), undefined, undefined, { signal: config.signal })
  return Object.create(remote, { invoke: { value: invoke } }) as Runnable
}

/** An error handler that is not shown refusals. */
function refusing(handler: Runnable): Runnable {
  const invoke = async (input: unknown, config: TaskConfig = {}): Promise<unknown> => {
    const failed = config.configurable?.['__pregel_node_error'] as { node?: string; error?: unknown } | undefined
    const refusal = findRefusal(failed?.error)
    // Another object: LangGraph passes over an error that it has given to a handler before.
    if (refusal !== undefined) throw new Refusal(refusal.code, refusal.message, refusal.details, { cause: refusal })
    // What was refused may fit by now, so its node gets another try, with the input that it had.
    if (isKeptRefusal(failed?.error)) return new Command({ goto: new Send(failed!.node!, input) })
    return handler.invoke(input, config)
  }
  return Object.create(handler, { invoke: { value: invoke } }) as Runnable
}

/**
 * Resumed after a refusal: a checkpoint has kept its name and its message, and LangGraph makes a plain error of them to
 * handle it now. A refusal of this run is found as itself before.
 */
function isKeptRefusal(error: unknown): boolean {
  return error instanceof Error && Object.getPrototypeOf(error) === Error.prototype && error.name === 'HoldfastRefusal'
}

/** LangGraph itself does not retry what has the status 402; a `retryOn` of the user may. */
function withoutRefusals(policy: RetryPolicy | undefined): RetryPolicy | undefined {
  const { retryOn } = policy ?? {}
  if (retryOn === undefined) return policy
  return { ...policy, retryOn: (error) => findRefusal(error) === undefined && retryOn(error) }
}

/** Puts a run around every run of the graph. */
function entering(graph: Graph, source: ScopeSource, options: GuardGraphOptions): Graph {
  const own = Object.getPrototypeOf(graph) as Graph
  const methods = {
    [STREAM]: (input: unknown, given?: unknown) =>
      inRun(
        () => beginRun(source, options),
        () => own[STREAM].call(graph, input, given),
      ),
    withConfig: (config: object) => entering(own.withConfig.call(graph, config), source, options),
  }
  // Not enumerable, since LangGraph makes copies of a graph by its enumerable members.
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(graph, name, { value, configurable: true })
  guarded.add(graph)
  return graph
}

async function* inRun(begin: () => Entered, open: () => AsyncGenerator): AsyncGenerator {
  const { run, end, graphRun } = begin()
  const steps = run(open)
  try {
    for (;;) {
      // The first step starts the graph, in the context of whoever asks for it. All are asked for from this run.
      const step = await run(() => steps.next())
      if (graphRun.misuse !== undefined) throw graphRun.misuse
      if (step.done === true) return
      yield step.value
    }
  } finally {
    try {
      await run(() => steps.return(undefined))
    } finally {
      await run(end)
    }
  }
}

interface Entered {
  /** Runs `fn` where the graph runs. */
  readonly run: <T>(fn: () => T) => T
  readonly end: () => Promise<void>
  readonly graphRun: GraphRun
}

function beginRun(source: ScopeSource, { handoffs = {}, ...options }: GuardGraphOptions): Entered {
  const around = currentPlace()
  // A graph inside of a guarded graph works for whoever its node works for, such as the receiver of a handoff.
  const given = around === undefined ? undefined : (ambient().scope as Scope | undefined)
  const scope = given ?? scopeOf(source)
  if (given !== undefined) warnOfOther(source, given)
  assertOthers(handoffs, scope)
  const graphRun = createGraphRun({ handoffs, around, scope })
  const run = scope.enter(() => inGraphRun(graphRun, () => observed(scope, options, () => AsyncLocalStorage.snapshot(), true)))
  return { run, end: () => endGraphRun(graphRun), graphRun }
}

/** Scopes that were given to a graph, and that it did not run in. */
const passedOver = new WeakSet<object>()

function warnOfOther(source: ScopeSource, scope: Scope): void {
  if (typeof source !== 'object' || (source.agent === scope.agent && source.budget === scope.budget) || passedOver.has(source)) return
  passedOver.add(source)
  const message = `A guarded graph was given \`${source.agent}\` on \`${source.budget}\`, and runs as \`${scope.agent}\` on \`${scope.budget}\`: inside of another guarded graph it works for the node that it is in. Give it no scope there; for money of its own name its node in \`handoffs\`.`
  scope.report({ type: 'escape', message })
}
