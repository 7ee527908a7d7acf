// `generateContent` of Gemini models, in the Gemini API and in Vertex AI. The model stands in the path; the usage of
// a stream is in each of its chunks, counted up, so that only the one that ends the answer says what it cost.

import { addGoogleSearches, countGoogleSearches, readGoogleUsage } from '../../src/metering/usage/google.ts'
import { boundGoogleRequest, camelCase } from '../../src/metering/worst-case/google.ts'
import { eventOf, finding, type Body, type Finding, type Wire, type WireRequest } from './wire.ts'

const METHOD = /\/(models|tunedModels|endpoints)\/([^/:]+):(generateContent|streamGenerateContent)$/

/** Whether this is the path of a request that {@link google} meters. */
export function isGooglePath(path: string): boolean {
  return METHOD.test(path)
}

/** `POST …/models/{model}:generateContent` and `:streamGenerateContent`. */
export const google: Wire = {
  name: 'google',
  modelOf: (request) => ({ id: modelOf(request), serviceTier: tierAskedFor(request) }),
  bound: (request, options) => boundGoogleRequest(modelOf(request), request.body, request.bytes, options),
  prepare(body, cap) {
    if (cap === undefined) return body
    const field = Object.keys(body).find((key) => camelCase(key) === 'generationConfig') ?? 'generationConfig'
    const config = Object.entries((body[field] as Body | null | undefined) ?? {}).filter(([key]) => camelCase(key) !== 'maxOutputTokens')
    return { ...body, [field]: { ...Object.fromEntries(config), maxOutputTokens: cap } }
  },
  isStream: ({ path }) => path.endsWith(':streamGenerateContent'),
  // Without `alt=sse` a stream is one JSON array that comes in pieces.
  streamsJson: true,
  findIn(answer) {
    const queries = new Set<string>()
    addGoogleSearches(queries, answer['candidates'])
    return foundIn(answer, queries)
  },
  events(original) {
    const choices = candidatesOf(original)
    const finished = new Set<unknown>()
    const queries = new Set<string>()
    let blocked = false
    let found: Finding | undefined
    return {
      get found() {
        return found
      },
      // Nothing marks the last chunk, and the usage of a later one would count.
      ended: false,
      look(data) {
        // A cheap look that spares parsing the others.
        if (!/"(?:finishReason|blockReason|groundingMetadata|usageMetadata)"/.test(data)) return true
        const chunk = eventOf(data)
        if (chunk === undefined) return true
        const { candidates, promptFeedback } = chunk
        addGoogleSearches(queries, candidates)
        for (const candidate of listOf(candidates)) if (candidate['finishReason'] != null) finished.add(candidate['index'] ?? 0)
        blocked ||= (promptFeedback as Body | null | undefined)?.['blockReason'] != null
        // Before the end a count is only what was used so far.
        if ((blocked || finished.size >= choices) && chunk['usageMetadata'] != null) found = foundIn(chunk, queries)
        return true
      },
    }
  },
}

function foundIn({ usageMetadata, modelVersion, responseId }: Body, queries: ReadonlySet<string>): Finding | undefined {
  const usage = readGoogleUsage(usageMetadata, countGoogleSearches(queries, modelVersion))
  return finding(usage, responseId, tierThatAnswered(usageMetadata as Body | null | undefined))
}

/** The name of a Gemini model; of a tuned one, also where it is: its price is the operator's to give. */
function modelOf({ path }: WireRequest): string {
  const [, collection = '', name = ''] = METHOD.exec(path) ?? []
  return collection === 'models' ? decoded(name) : `${collection}/${decoded(name)}`
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    // No model has such a name; Google will say so.
    return name
  }
}

/** Vertex AI takes the tier as a header, the Gemini API in the body. */
function tierAskedFor({ headers, body }: WireRequest): string | undefined {
  const tier = headers.get('x-vertex-ai-llm-shared-request-type') ?? body['serviceTier'] ?? body['service_tier']
  return typeof tier === 'string' ? knownTier(tier) : undefined
}

function tierThatAnswered(usageMetadata: Body | null | undefined): string | undefined {
  const tier = usageMetadata?.['serviceTier'] ?? usageMetadata?.['trafficType']
  return typeof tier === 'string' ? knownTier(tier.replace(/^ON_DEMAND_/, '')) : undefined
}

/** A tier that costs the same as the usual one is no tier of its own here. */
function knownTier(tier: string): string {
  const name = tier.toLowerCase()
  return USUAL_TIERS.has(name) ? 'default' : name
}

/** @see https://googleapis.github.io/js-genai/release_docs/enums/types.TrafficType.html (2026-11-22) */
const USUAL_TIERS: ReadonlySet<string> = new Set([
  'standard',
  'unspecified',
  'on_demand',
  'offpeak',
  'provisioned_throughput',
  'traffic_type_unspecified',
])

function candidatesOf(body: Body): number {
  const config = (body['generationConfig'] ?? body['generation_config']) as Body | null | undefined
  return Math.max(1, Number(config?.['candidateCount'] ?? config?.['candidate_count'] ?? 1))
}

function listOf(value: unknown): readonly Body[] {
  const list = Array.isArray(value) ? (value as readonly unknown[]) : []
  return list.filter((item): item is Body => typeof item === 'object' && item !== null)
}
