// The types of `guardAgent`: those of `createAgent`, so that a guarded agent is as well known to the compiler as one
// without holdfast.

import type { ClientTool, ServerTool } from '@langchain/core/tools'
import type { SerializableSchema } from '@langchain/core/utils/standard_schema'
import type { InferInteropZodOutput, InteropZodObject, InteropZodType } from '@langchain/core/utils/types'
import type { StateDefinitionInit } from '@langchain/langgraph'
import type {
  AgentMiddleware,
  AgentTypeConfig,
  AnyAgentMiddleware,
  AnyAnnotationRoot,
  CombineStreamTransformers,
  CombineTools,
  CreateAgentParams,
  DefaultAgentTypeConfig,
  DefaultMiddlewareTypeConfig,
  MiddlewareTypeConfig,
  ProviderStrategy,
  ReactAgent,
  ResponseFormatUndefined,
  ToolStrategy,
  TypedToolStrategy,
} from 'langchain'
import type { ScopeSource } from '../../src/waist/scope.ts'
import type { ObserverOptions } from './observer.ts'
import type { GuardModelOptions } from './shared.ts'
import type { ToolGuardOptions } from './tools.ts'
import type { EndingOptions } from './wrap-up.ts'

/** Options of `holdfastMiddleware`. */
export interface MiddlewareOptions extends GuardModelOptions, ToolGuardOptions, EndingOptions {
  /** False for an agent without tools: `wrapToolCall` adds a node to its graph. @default true */
  readonly tools?: boolean
}

/** A middleware as lists have it. LangChain's own type does not accept its own middleware under `exactOptionalPropertyTypes`. */
export interface ListedMiddleware {
  readonly name: string
  readonly wrapModelCall?: unknown
  readonly wrapToolCall?: unknown
  readonly tools?: readonly unknown[] | undefined
}

/** A JSON schema as `createAgent` takes one. */
interface JsonSchema {
  readonly type: 'null' | 'boolean' | 'object' | 'array' | 'number' | 'string' | 'integer'
  readonly [key: string]: unknown
}

type OneFormat = InteropZodType | SerializableSchema | JsonSchema | ToolStrategy | ProviderStrategy

/** Everything that `createAgent` takes for `responseFormat`. */
export type AnyResponseFormat = OneFormat | TypedToolStrategy | readonly OneFormat[] | undefined

/** What nothing more is known of, as `createAgent` has it. */
type Unknown = DefaultAgentTypeConfig['Response']
type Known<T> = unknown extends T ? Unknown : T extends Unknown ? T : Unknown

/** What `structuredResponse` is, by `responseFormat`: as the overloads of `createAgent` have it. */
export type ResponseOf<F> = [F] extends [undefined]
  ? ResponseFormatUndefined
  : F extends InteropZodType
    ? Known<InferInteropZodOutput<F>>
    : F extends readonly InteropZodType[]
      ? Known<InferInteropZodOutput<F[number]>>
      : F extends { readonly _schemaType?: infer T } | ProviderStrategy<infer T>
        ? Known<T>
        : Unknown

/** The middleware as `createAgent` knows it, so that its state and its tools are those of the agent. */
export type KnownMiddleware<M extends readonly ListedMiddleware[]> = {
  readonly [K in keyof M]: M[K] extends AnyAgentMiddleware
    ? M[K]
    : AgentMiddleware<
        ConfigOf<M[K]>['Schema'],
        ConfigOf<M[K]>['ContextSchema'],
        ConfigOf<M[K]>['FullContext'],
        ConfigOf<M[K]>['Tools'],
        ConfigOf<M[K]>['StreamTransformers']
      >
}

type ConfigOf<M> = M extends { readonly '~middlewareTypes'?: infer C }
  ? C extends MiddlewareTypeConfig
    ? C
    : DefaultMiddlewareTypeConfig
  : DefaultMiddlewareTypeConfig

/** Parts of the streams of an agent, which `createAgent` takes. */
export type Transformers = NonNullable<CreateAgentParams['streamTransformers']>

/** The agent that `createAgent` would make of these. */
export type AgentOf<
  F,
  S extends StateDefinitionInit | undefined,
  C extends AnyAnnotationRoot | InteropZodObject,
  M extends readonly ListedMiddleware[],
  T extends readonly (ClientTool | ServerTool)[],
  X extends Transformers,
> = ReactAgent<
  AgentTypeConfig<
    ResponseOf<F>,
    S,
    C,
    KnownMiddleware<M>,
    CombineTools<T, KnownMiddleware<M>>,
    CombineStreamTransformers<X, KnownMiddleware<M>>
  >
>

/** Options of `guardAgent`: those of `createAgent`, and of holdfast. */
export interface GuardAgentOptions<
  F extends AnyResponseFormat = AnyResponseFormat,
  S extends StateDefinitionInit | undefined = StateDefinitionInit | undefined,
  C extends AnyAnnotationRoot | InteropZodObject = AnyAnnotationRoot | InteropZodObject,
  M extends readonly ListedMiddleware[] = readonly ListedMiddleware[],
  T extends readonly (ClientTool | ServerTool)[] = readonly (ClientTool | ServerTool)[],
  X extends Transformers = Transformers,
>
  extends
    Omit<CreateAgentParams, 'middleware' | 'responseFormat' | 'stateSchema' | 'contextSchema' | 'tools' | 'streamTransformers'>,
    ObserverOptions {
  /** Other middleware, outermost first; they run inside of holdfast. @default none */
  readonly middleware?: M
  readonly responseFormat?: F
  readonly stateSchema?: S
  readonly contextSchema?: C
  readonly tools?: T
  readonly streamTransformers?: X
  /** The scope, a function that returns one, or nothing for that of `scope.enter`. */
  readonly scope?: ScopeSource
  /** How calls are guarded; `tools` is whether the agent has any. `tools: false` leaves them to `guardTools` of `holdfast/langgraph`. */
  readonly holdfast?: MiddlewareOptions
}
