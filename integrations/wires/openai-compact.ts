// Compaction of a conversation: a model call whose output nothing caps.

import { boundResponsesRequest } from '../../src/metering/worst-case/openai.ts'
import { unmetered } from '../../src/metering/worst-case/bound.ts'
import { responses } from './openai-responses.ts'
import type { Wire } from './wire.ts'

/** `POST …/responses/compact`. The request has no cap, so the most that its model can put out is held. */
export const compact: Wire = {
  ...responses,
  name: 'compact',
  bound({ body, bytes }, options) {
    const bound = boundResponsesRequest(body, bytes, options)
    const most = options.maxOutputTokens ?? options.contextWindow
    if (most === undefined)
      throw unmetered(
        `A compaction by \`${bound.model}\` has no output cap, and the model's longest answer is not known`,
        'Add `maxOutputTokens` or `contextWindow` to the price of the model',
      )
    return { ...bound, outputTokensPerChoice: most, capSet: true }
  },
  prepare: (body) => body,
  isStream: () => false,
}
