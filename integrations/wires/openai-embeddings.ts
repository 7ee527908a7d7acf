// Embeddings: an input, no output, and one usage for all of a list.

import { readChatUsage } from '../../src/metering/usage/openai.ts'
import { boundEmbeddingRequest } from '../../src/metering/worst-case/openai-texts.ts'
import { finding, modelInBody, noEvents, type Wire } from './wire.ts'

/** `POST …/embeddings`. */
export const embeddings: Wire = {
  name: 'embeddings',
  modelOf(request) {
    const model = modelInBody(request)
    return { ...model, provider: model.id.startsWith('text-embedding-') ? 'openai' : undefined }
  },
  bound: ({ body, bytes }, options) => boundEmbeddingRequest(body, bytes, options),
  prepare: (body) => body,
  isStream: () => false,
  findIn: ({ usage, id }) => finding(readChatUsage(usage), id, undefined),
  events: noEvents,
}
