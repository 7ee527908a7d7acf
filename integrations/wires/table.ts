// Which wire format a request speaks: known paths only. What is not known here is refused by the guard.

import { google, isGooglePath } from './google.ts'
import { googleEmbeddings, isGoogleEmbeddingsPath } from './google-embeddings.ts'
import { isUnbilledByGoogle, prolongsGoogleCache } from './google-paths.ts'
import { chat } from './openai-chat.ts'
import { responses } from './openai-responses.ts'
import type { Wire } from './wire.ts'

/** What a request is to the guard. */
export type Classified = Wire | 'unbilled' | 'unknown'

/** Finds the wire format of a request by its method and path. */
export function wireOf(method: string, path: string): Classified {
  if (prolongsGoogleCache(method, path)) return 'unknown'
  if (method !== 'POST') return 'unbilled'
  if (path.endsWith('/chat/completions')) return chat
  if (path.endsWith('/responses')) return responses
  if (isGooglePath(path)) return google
  if (isGoogleEmbeddingsPath(path)) return googleEmbeddings
  if (isUnbilledByGoogle(path)) return 'unbilled'
  return path.endsWith('/cancel') ? 'unbilled' : 'unknown'
}
