// Which reader belongs to which answer. Each takes the parsed JSON of a whole answer, or of the one event of a stream that
// has its usage, so that who knows the endpoint needs to know nothing else.

import type { Usage } from '../../waist/price.ts'
import { readConverseUsage, readInvocationMetrics } from './bedrock.ts'
import { asFields } from './disjoint.ts'
import { readOllamaAnswer } from './ollama.ts'
import { readImagesAnswer, readTranscriptionUsage } from './openai-media.ts'
import { readChatAnswer, readChatUsage, readRealtimeUsage, readResponsesUsage } from './openai.ts'

/** Reads an answer; `undefined` for no usable usage, and whoever asked then charges the worst case. Never throws. */
export type UsageReader = (answer: unknown) => Usage | undefined

/** An endpoint, by what it answers. */
export type UsageEndpoint =
  | 'chat'
  | 'responses'
  | 'embeddings'
  | 'images'
  | 'transcriptions'
  | 'realtime'
  | 'converse'
  | 'invokeModel'
  | 'ollama'

/**
 * Readers by endpoint.
 *
 * `chat` is what OpenAI, Azure, Mistral, Groq, DeepSeek, xAI, OpenRouter, vLLM and Ollama's `/v1` answer; `responses`
 * takes the response itself, not the event around it, and `realtime` the `response` of `response.done`.
 */
export const USAGE_READERS: Readonly<Record<UsageEndpoint, UsageReader>> = {
  chat: readChatAnswer,
  responses: (answer) => readResponsesUsage(usageOf(answer), asFields(answer)?.['output']),
  embeddings: (answer) => readChatUsage(usageOf(answer)),
  images: readImagesAnswer,
  transcriptions: (answer) => readTranscriptionUsage(usageOf(answer)),
  realtime: (answer) => readRealtimeUsage(usageOf(answer)),
  converse: (answer) => readConverseUsage(usageOf(answer)),
  invokeModel: (answer) => readInvocationMetrics(asFields(answer)?.['amazon-bedrock-invocationMetrics']),
  ollama: readOllamaAnswer,
}

function usageOf(answer: unknown): unknown {
  return asFields(answer)?.['usage']
}
