// The settings of `generateText`, `streamText`, `generateObject` and agents, under holdfast as a whole: whatever model
// and tools they name, now or in a later step, are guarded.

import type { Output, ToolLoopAgentSettings, ToolSet } from 'ai'
import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider'
import { Refusal } from '../../src/lib/errors.ts'
import type { ScopeSource } from '../../src/waist/scope.ts'
import type { ToolAmounts } from '../common/guard-function.ts'
import { scopeOf } from '../common/scope-source.ts'
import { GUARDED, guardModel, isObject, type ModelOptions } from './models.ts'
import { guardTools, toolApproval } from './tools.ts'

/** Options of {@link guardSettings}. */
export interface SettingsOptions extends ModelOptions {
  /** What calls of tools count as. @default nothing but the permission to make them */
  readonly toolAmounts?: ToolAmounts | undefined
}

/** The settings that are looked at; all others pass. */
export interface GuardableSettings {
  readonly model?: unknown
  readonly tools?: unknown
  readonly toolApproval?: unknown
  readonly prepareStep?: unknown
  readonly prepareCall?: unknown
}

/** Settings of an agent whose `prepareCall` sees what its callers give: the SDK has to infer their types itself. */
type WithPrepareCall<T extends { prepareCall?: unknown }> = T & { prepareCall: NonNullable<T['prepareCall']> }

/** Functions of ours: what is guarded already is not guarded twice. */
const OURS = new WeakSet<object>()

/**
 * The same settings, guarded: the model, also as a string and as what `prepareStep` or `prepareCall` returns; the tools;
 * and `toolApproval`, which asks the gates before it asks what was there.
 *
 *     await generateText(guardSettings(scope, { model: openai('gpt-4o'), tools, prompt }))
 *     new ToolLoopAgent(guardSettings(scope, { model: openai('gpt-4o'), tools }))
 *
 * A model that is guarded already keeps its own scope. One that was wrapped by hand, with `holdfastMiddleware` or over a
 * guarded one, is not known as guarded: each call is held twice, and paid once, by the inner one; of an answer that has no
 * id twice. What calls a model by itself, such as `experimental_repairToolCall`, has to take a guarded one.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function guardSettings<
  CALL_OPTIONS = never,
  TOOLS extends ToolSet = ToolSet,
  RUNTIME_CONTEXT extends Record<string, unknown> = Record<string, unknown>,
  OUTPUT extends Output.Output = never,
>(
  source: ScopeSource,
  settings: WithPrepareCall<ToolLoopAgentSettings<CALL_OPTIONS, TOOLS, RUNTIME_CONTEXT, OUTPUT>>,
  options?: SettingsOptions,
): WithPrepareCall<ToolLoopAgentSettings<CALL_OPTIONS, TOOLS, RUNTIME_CONTEXT, OUTPUT>>
/** The same for all other settings, whose types stay as they are. */
export function guardSettings<const S extends object>(source: ScopeSource, settings: S, options?: SettingsOptions): S
/** Guards settings, whichever they are. */
export function guardSettings<S extends object>(source: ScopeSource, settings: S, options: SettingsOptions = {}): S {
  const { model, tools, toolApproval: approval, prepareStep, prepareCall } = settings as GuardableSettings
  const guarded = <T>(value: T): T => (isObject(value) ? guardSettings(source, value, options) : value)
  const rewrapped = (prepare: unknown): unknown => {
    if (typeof prepare !== 'function' || OURS.has(prepare)) return prepare
    const prepared = async (given: unknown): Promise<unknown> => guarded((await prepare(given)) as unknown)
    OURS.add(prepared)
    return prepared
  }
  return {
    ...settings,
    ...(model === undefined ? {} : { model: guardNamed(model, source, options) }),
    ...(isObject(tools)
      ? { tools: guardTools(source, tools as ToolSet, options.toolAmounts), toolApproval: toolApproval(source, approval) }
      : {}),
    ...(prepareStep === undefined ? {} : { prepareStep: rewrapped(prepareStep) }),
    ...(prepareCall === undefined ? {} : { prepareCall: rewrapped(prepareCall) }),
  }
}

function guardNamed(model: unknown, source: ScopeSource, options: ModelOptions): unknown {
  if (typeof model === 'string') return modelNamed(model, source, options)
  return isObject(model) ? guardModel(model, source, options) : model
}

/** A string is looked up where the SDK would, when it is called; but for its gateway, which is out of sight. */
function modelNamed(modelId: string, source: ScopeSource, options: ModelOptions): LanguageModelV4 {
  const find = (): LanguageModelV4 => {
    const provider = (globalThis as { AI_SDK_DEFAULT_PROVIDER?: { languageModel(id: string): object } }).AI_SDK_DEFAULT_PROVIDER
    if (provider !== undefined) return guardModel(provider.languageModel(modelId), source, options) as LanguageModelV4
    const wouldPass = 'globalThis.AI_SDK_DEFAULT_PROVIDER = guardProvider(provider, scope), or a model in place of its name'
    const resource = modelId.slice(0, 200).toWellFormed()
    const message = `The model \`${resource}\` is only a name, which the AI SDK would look up at its gateway, out of sight. To use it: ${wouldPass}.`
    const refusal = new Refusal('ERR_UNMETERED', message, { resource, wouldPass })
    scopeOf(source).refuse(refusal)
    throw refusal
  }
  return {
    [GUARDED]: true,
    get specificationVersion() {
      return find().specificationVersion
    },
    provider: 'default',
    modelId,
    get supportedUrls() {
      return find().supportedUrls
    },
    doGenerate: (params: LanguageModelV4CallOptions) => find().doGenerate(params),
    doStream: (params: LanguageModelV4CallOptions) => find().doStream(params),
  } as LanguageModelV4
}
