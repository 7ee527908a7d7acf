// What starts inside of a guarded run, seen by LangChain's callbacks. They follow the run wherever it goes: into tools,
// sub-agents, and what middleware asks by itself. They hold no money; a model with nothing under it that does is
// refused before it sends, since a budget that it could pass by would not be one.

import { AsyncLocalStorage } from 'node:async_hooks'
import { BaseCallbackHandler } from '@langchain/core/callbacks/base'
import { getContextVariable, registerConfigureHook, setContextVariable } from '@langchain/core/context'
import { AsyncLocalStorageProviderSingleton } from '@langchain/core/singletons'
import { ambient } from '../../src/lib/ambient.ts'
import { Refusal } from '../../src/lib/errors.ts'
import type { Scope, ScopeSource } from '../../src/waist/scope.ts'
import { scopeOf } from '../common/scope-source.ts'
import { nameOf } from './shared.ts'

/** How a run of an agent or a graph is observed. */
export interface ObserverOptions {
  /**
   * What a chat model does that starts inside of a run and is not guarded, such as one that a tool or a middleware has
   * of its own. `refuse`: it is refused before its HTTP, with the line to add. `report`: it runs outside of the
   * budget, and one `escape` event for each kind of model and run says so. @default 'refuse'
   */
  readonly onUnguarded?: 'refuse' | 'report'
}

/** One invocation of a guarded agent or graph. */
interface ObservedRun {
  readonly source: ScopeSource
  readonly onUnguarded: 'refuse' | 'report'
  /** Models that the operator has been told of. */
  readonly told: Set<string>
  /** Of a model outside of all tools, whose refusal somebody may have made something else of. */
  refusal: Refusal | undefined
}

/** Where something runs. */
interface Place {
  readonly run: ObservedRun
  /** A refusal is the answer of a tool, or the affair of a node: it ends nothing by itself. */
  readonly isCaught: boolean
  /** Class of the model that is held here by its adapter, since its HTTP cannot be seen. */
  readonly held: string | undefined
}

const places = new AsyncLocalStorage<Place>()

/** Name of the handler; LangChain adds no second one of a name. */
const NAME = 'holdfast-observer'

/** Models of `@langchain/core` for tests, which call nobody. */
const FAKES = new Set(['FakeLLM', 'FakeStreamingLLM', 'FakeChatModel', 'FakeStreamingChatModel', 'FakeListChatModel', 'FakeBuiltModel'])

/** Most kinds of models that one run tells of. */
const MAX_TOLD = 100

/** Marks a guarded `fetch`, as the transport guard does. */
const GUARD_BRAND = Symbol.for('holdfast.guard')

/** Marks what a model that is held by itself says of itself. In the registry of the process, as two copies of this package are normal. */
export const HELD_MODEL: unique symbol = Symbol.for('holdfast.held-model') as never

type Fields = Readonly<Record<PropertyKey, unknown>>

/**
 * Runs `fn` as an observed run; inside of another one it is a run of its own.
 *
 * @param isCaught - Whether who catches a refusal in it may go on, as a node of a graph. @default false
 */
export function observed<T>(source: ScopeSource, { onUnguarded = 'refuse' }: ObserverOptions, fn: () => T, isCaught = false): T {
  const run: ObservedRun = { source, onUnguarded, told: new Set(), refusal: undefined }
  const place: Place = { run, isCaught, held: undefined }
  // In a context of its own, since LangChain's variables stay in the one where they are set.
  return AsyncLocalStorage.snapshot()(() => {
    AsyncLocalStorageProviderSingleton.initializeGlobalInstance(new AsyncLocalStorage())
    if (getContextVariable(NAME) === undefined) {
      setContextVariable(NAME, new Observer(place))
      registerConfigureHook({ contextVar: NAME, inheritable: true })
    }
    return places.run(place, fn)
  })
}

/** Runs a tool of an observed run. */
export function observedTool<T>(fn: () => T): T {
  const place = places.getStore()
  return place === undefined ? fn() : places.run({ ...place, isCaught: true }, fn)
}

/** Runs a call of a model that its adapter holds, and whose class is all that a callback is told of it. */
export function observedHeld<T>(model: object, fn: () => T): T {
  const place = places.getStore()
  const { lc_id: id } = model as { readonly lc_id?: readonly string[] }
  return place === undefined ? fn() : places.run({ ...place, held: id?.at(-1) }, fn)
}

/**
 * Throws what a model of this run was refused outside of all tools. Middleware may have made a text of it, as
 * `summarizationMiddleware` does, and the work would go on without what it was to do.
 */
export function throwIfObserved(): void {
  const refusal = places.getStore()?.run.refusal
  if (refusal !== undefined) throw refusal
}

class Observer extends BaseCallbackHandler {
  readonly name = NAME
  readonly #begun: Place

  constructor(begun: Place) {
    super({ ignoreChain: true, ignoreAgent: true, ignoreRetriever: true, ignoreCustomEvent: true, raiseError: true })
    this.#begun = begun
  }

  /** LangChain's own makes a new one of the class, without its run. */
  override copy(): BaseCallbackHandler {
    return this
  }

  override handleChatModelStart(model: object, _messages: unknown, _runId: string, _parent?: string, extra?: Fields): void {
    this.#started(model, extra)
  }

  override handleLLMStart(model: object, _prompts: unknown, _runId: string, _parent?: string, extra?: Fields): void {
    this.#started(model, extra)
  }

  #started(model: object, extra: Fields | undefined): void {
    const place = places.getStore() ?? this.#begun
    const kind = (model as { readonly id?: readonly string[] }).id?.at(-1) ?? 'unknown'
    if (FAKES.has(kind) || kind === place.held || isGuardedModel(model)) return
    const { run, isCaught } = place
    const scope = scopeOf((ambient().scope as Scope | undefined) ?? run.source)
    const refusal = refusalOf(kind, nameOf(model, extra), scope)
    if (run.onUnguarded === 'refuse') {
      try {
        scope.refuse(refusal)
      } catch (error) {
        if (!isCaught) run.refusal ??= refusal
        throw error
      }
    }
    // It was not refused, or the scope only observes.
    if (run.told.size >= MAX_TOLD || run.told.has(kind)) return
    run.told.add(kind)
    scope.report({ type: 'escape', message: refusal.message })
  }
}

function refusalOf(kind: string, resource: string, { agent }: Scope): Refusal {
  const wouldPass = 'guardModel(model, scope) around it'
  const message = `\`${kind}\` (\`${resource}\`) was called inside of a guarded run, and is not guarded: what it spends is held nowhere. Add ${wouldPass}; for one that costs nothing, such as a fake of your tests, set \`onUnguarded: 'report'\`.`
  return new Refusal('ERR_UNMETERED', message, { agent, resource, wouldPass })
}

/**
 * Whether a model, as it describes itself to callbacks, has a guard under it: its constructor was given a guarded
 * `fetch`, by whatever name, or each of its calls is held by itself.
 */
function isGuardedModel(model: object): boolean {
  const { [HELD_MODEL]: held, kwargs } = model as Fields
  if (held === true || isGuard(globalThis.fetch)) return true
  const given = Object.values((kwargs ?? {}) as Fields)
  return given.some((value) => isGuard(value) || (typeof value === 'object' && value !== null && Object.values(value).some(isGuard)))
}

function isGuard(value: unknown): boolean {
  return typeof value === 'function' && GUARD_BRAND in value
}
