// What the endpoints of the OpenAI API are to a budget: which calls nobody can meter spend something, and which cost
// nothing. What is not here may spend, and is refused.

/** An endpoint that is not metered. */
export interface Endpoint {
  /** Its path below the version, `*` for any one segment. */
  readonly path: string
  /** `free` passes; `spends` is refused unless `passthrough` names it. */
  readonly costs: 'free' | 'spends'
  /** Where its cost is documented, or what it spends. */
  readonly because: string
}

/** A copy of this page, looked up on 2026-11-22. */
const PRICING = 'https://openai.com/api/pricing'
const STOPS = 'it only stops what runs: nothing new is generated'
const KEEPS = `it keeps or changes records, for which the price list names no fee: ${PRICING}`

/** By path. The longest that matches the end of a path counts, and a free one only right below the version of an API. */
export const ENDPOINTS: readonly Endpoint[] = [
  { path: 'moderations', costs: 'free', because: 'it is free to use: https://developers.openai.com/api/docs/guides/moderation' },
  {
    path: 'responses/input_tokens',
    costs: 'free',
    because: 'it counts what a request would use: https://developers.openai.com/api/docs/guides/token-counting',
  },
  { path: 'responses/*/cancel', costs: 'free', because: STOPS },
  { path: 'batches/*/cancel', costs: 'free', because: STOPS },
  { path: 'chat/completions/*', costs: 'free', because: KEEPS },
  { path: 'conversations', costs: 'free', because: KEEPS },
  { path: 'conversations/*', costs: 'free', because: KEEPS },
  { path: 'conversations/*/items', costs: 'free', because: KEEPS },
  { path: 'files', costs: 'free', because: KEEPS },
  { path: 'uploads', costs: 'free', because: KEEPS },
  { path: 'uploads/*/parts', costs: 'free', because: KEEPS },
  { path: 'uploads/*/complete', costs: 'free', because: KEEPS },
  { path: 'uploads/*/cancel', costs: 'free', because: KEEPS },
  { path: 'threads/*/runs/*', costs: 'free', because: KEEPS },
  { path: 'threads/*/runs/*/cancel', costs: 'free', because: STOPS },
  { path: 'fine_tuning/jobs/*/cancel', costs: 'free', because: STOPS },
  { path: 'fine_tuning/jobs/*/pause', costs: 'free', because: STOPS },
  { path: 'evals/*/runs/*/cancel', costs: 'free', because: STOPS },
  { path: 'vector_stores/*/file_batches/*/cancel', costs: 'free', because: STOPS },
  { path: 'realtime/calls/*/hangup', costs: 'free', because: STOPS },
  { path: 'realtime/calls/*/reject', costs: 'free', because: STOPS },
  { path: 'live/sessions/*/hangup', costs: 'free', because: STOPS },
  { path: 'live/sessions/*/reject', costs: 'free', because: STOPS },
  { path: 'chatkit/sessions/*/cancel', costs: 'free', because: STOPS },

  { path: 'batches', costs: 'spends', because: 'it runs every request of a file, none of which this guard sees' },
  { path: 'decisions', costs: 'spends', because: 'it runs a model, whose price and bound this version does not know' },
  { path: 'containers', costs: 'spends', because: `a container has a fee for its time: ${PRICING}` },
  { path: 'containers/*/files', costs: 'spends', because: 'it keeps a container alive, which has a fee for its time' },
  { path: 'vector_stores', costs: 'spends', because: `a vector store has a fee for each GB and day: ${PRICING}` },
  { path: 'vector_stores/*', costs: 'spends', because: 'it may keep a vector store alive, which has a fee for each GB and day' },
  { path: 'vector_stores/*/files', costs: 'spends', because: 'it makes a vector store larger, which has a fee for each GB and day' },
  { path: 'vector_stores/*/files/*', costs: 'spends', because: 'it may embed a file again' },
  { path: 'vector_stores/*/file_batches', costs: 'spends', because: 'it makes a vector store larger, which has a fee for each GB and day' },
  { path: 'vector_stores/*/search', costs: 'spends', because: `a search has a fee: ${PRICING}` },
  { path: 'fine_tuning/jobs', costs: 'spends', because: 'training is billed by its tokens and epochs, which are not in the request' },
  { path: 'fine_tuning/jobs/*/resume', costs: 'spends', because: 'training goes on' },
  { path: 'fine_tuning/alpha/graders/run', costs: 'spends', because: 'a grader may run a model' },
  { path: 'assistants', costs: 'spends', because: 'it may make a vector store, which has a fee for each GB and day' },
  { path: 'assistants/*', costs: 'spends', because: 'it may make a vector store, which has a fee for each GB and day' },
  { path: 'threads', costs: 'spends', because: 'it may make a vector store, which has a fee for each GB and day' },
  { path: 'threads/*', costs: 'spends', because: 'it may make a vector store, which has a fee for each GB and day' },
  { path: 'threads/*/messages', costs: 'spends', because: 'its attachments may make a vector store larger, which has a fee' },
  { path: 'threads/runs', costs: 'spends', because: 'a run is many model calls on the server' },
  { path: 'threads/*/runs', costs: 'spends', because: 'a run is many model calls on the server' },
  { path: 'threads/*/runs/*/submit_tool_outputs', costs: 'spends', because: 'a run goes on with it' },
  { path: 'evals', costs: 'spends', because: 'an evaluation may run models on what is stored later' },
  { path: 'evals/*/runs', costs: 'spends', because: 'a run of an evaluation is many model calls on the server' },
  { path: 'videos', costs: 'spends', because: 'a video is billed by its seconds, and this version has no price for them' },
  { path: 'videos/edits', costs: 'spends', because: 'a video is billed by its seconds' },
  { path: 'videos/extensions', costs: 'spends', because: 'a video is billed by its seconds' },
  { path: 'videos/*/remix', costs: 'spends', because: 'a video is billed by its seconds' },
  { path: 'realtime/client_secrets', costs: 'spends', because: 'whoever has the secret spends where no guard sees it' },
  { path: 'realtime/translations/client_secrets', costs: 'spends', because: 'whoever has the secret spends where no guard sees it' },
  { path: 'realtime/sessions', costs: 'spends', because: 'whoever has its secret spends where no guard sees it' },
  { path: 'realtime/transcription_sessions', costs: 'spends', because: 'whoever has its secret spends where no guard sees it' },
  { path: 'realtime/calls', costs: 'spends', because: 'a call is billed by its tokens, over a connection that no guard sees' },
  { path: 'realtime/calls/*/accept', costs: 'spends', because: 'a call is billed by its tokens, over a connection that no guard sees' },
  { path: 'live/sessions', costs: 'spends', because: 'a session is billed by its tokens, over a connection that no guard sees' },
  { path: 'chatkit/sessions', costs: 'spends', because: 'whoever has its secret spends where no guard sees it' },
  { path: 'agents/sessions', costs: 'spends', because: 'a session is many model calls on the server' },
]

/** A segment of a base URL below which the paths of an API begin. */
const BASE = /^(?:v\d\w*|openai|api)$/

/** The endpoint that a path names; `undefined` for one that is not known. */
export function endpointOf(path: string): Endpoint | undefined {
  const segments = path.split('/').filter((segment) => segment !== '')
  return BY_LENGTH.find(({ costs, parts }) => {
    const base = segments.at(-parts.length - 1)
    const end = segments.slice(-parts.length)
    if (costs === 'free' && segments.length > parts.length && !BASE.test(base!)) return false
    return end.length === parts.length && parts.every((part, at) => part === '*' || part === end[at])
  })
}

/** The longest first, then the one with fewer wildcards: `threads/runs` is not `threads/*`. */
const BY_LENGTH = ENDPOINTS.map((endpoint) => ({ ...endpoint, parts: endpoint.path.split('/') })).sort(
  (one, other) => other.parts.length - one.parts.length || wildcardsIn(one.path) - wildcardsIn(other.path),
)

function wildcardsIn(path: string): number {
  return path.split('*').length
}
