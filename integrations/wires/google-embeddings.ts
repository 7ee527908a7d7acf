// Embeddings of Gemini models: an input and no output. The Gemini API mostly says nothing of their usage; then what was
// held is what is counted.

import { readGoogleUsage } from '../../src/metering/usage/google.ts'
import { boundGoogleEmbedding } from '../../src/metering/worst-case/google.ts'
import { finding, type Body, type Wire } from './wire.ts'

const METHOD = /\/models\/([^/:]+):(?:embedContent|batchEmbedContents)$/

/** Whether this is the path of a request that {@link googleEmbeddings} meters. */
export function isGoogleEmbeddingsPath(path: string): boolean {
  return METHOD.test(path)
}

/** `POST …/models/{model}:embedContent` and `:batchEmbedContents`. */
export const googleEmbeddings: Wire = {
  name: 'google embeddings',
  modelOf: ({ path }) => ({ id: nameIn(path) }),
  bound: ({ path, body, bytes }, options) => boundGoogleEmbedding(nameIn(path), body, bytes, options),
  prepare: (body) => body,
  isStream: () => false,
  findIn({ usageMetadata }) {
    const usage = usageMetadata as Body | null | undefined
    // There is nothing on the output side, so a total that is not said is the prompt.
    return finding(
      readGoogleUsage({ ...usage, totalTokenCount: usage?.['totalTokenCount'] ?? usage?.['promptTokenCount'] }),
      undefined,
      undefined,
    )
  },
  events: () => ({ found: undefined, ended: false, look: () => true }),
}

function nameIn(path: string): string {
  return METHOD.exec(path)?.[1] ?? ''
}
