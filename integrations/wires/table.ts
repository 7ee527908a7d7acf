// Which wire format a request speaks: known paths only. What is not known here is refused by the guard.

import { messages } from './anthropic.ts'
import { google, isGooglePath } from './google.ts'
import { googleEmbeddings, isGoogleEmbeddingsPath } from './google-embeddings.ts'
import { isUnbilledByGoogle, prolongsGoogleCache } from './google-paths.ts'
import { chat } from './openai-chat.ts'
import { responses } from './openai-responses.ts'
import type { Wire } from './wire.ts'

/** What a request is to the guard. */
export type Classified = Wire | 'unbilled' | 'unknown'

/** Ends of paths whose POST costs nothing: https://platform.claude.com/docs/en/build-with-claude/token-counting (looked up 2026-11-22). */
const UNBILLED = ['/cancel', '/v1/messages/count_tokens', '/v1/files', '/v1/oauth/token']

/** Finds the wire format of a request by its method and path. */
export function wireOf(method: string, path: string): Classified {
  if (prolongsGoogleCache(method, path)) return 'unknown'
  if (method !== 'POST') return 'unbilled'
  if (path.endsWith('/chat/completions')) return chat
  if (path.endsWith('/responses')) return responses
  // The whole ending: other providers have messages that are no request to a model.
  if (path.endsWith('/v1/messages')) return messages
  if (isGooglePath(path)) return google
  if (isGoogleEmbeddingsPath(path)) return googleEmbeddings
  if (isUnbilledByGoogle(path)) return 'unbilled'
  return UNBILLED.some((end) => path.endsWith(end)) ? 'unbilled' : 'unknown'
}
