// The SDK's telemetry as a second count: it runs around each call of a language model, whichever model that is.

import type { Telemetry } from 'ai'
import type { ScopeSource } from '../../src/waist/scope.ts'
import { observeCall } from '../common/call-observer.ts'

/**
 * A telemetry integration that reports an `escape` for each call of a language model that was not held, such as one of
 * a raw model that `prepareStep` returned. For `registerTelemetry(countCalls(scope))`, or `telemetry: { integrations: [countCalls(scope)] }`
 * of one call.
 *
 * An alarm, which stops nothing. Not seen: calls whose `telemetry` is off or has other integrations, models called
 * by hand, embeddings, images.
 *
 * @param source - The scope, a function that returns one, or nothing for that of `scope.enter`.
 */
export function countCalls(source?: ScopeSource): Telemetry {
  return { executeLanguageModelCall: ({ execute }) => observeCall(source, 'model', execute) }
}
