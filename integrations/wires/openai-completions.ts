// Legacy completions, which many servers still speak.

import { boundCompletionRequest } from '../../src/metering/worst-case/openai-texts.ts'
import { chat } from './openai-chat.ts'
import type { Wire } from './wire.ts'

/** `POST …/completions`. Answers and streams are those of chat completions, as far as their usage goes. */
export const completions: Wire = {
  ...chat,
  name: 'completions',
  bound: ({ body, bytes }, options) => boundCompletionRequest(body, bytes, options),
  // This format has one name for its cap, whatever a server calls that of a chat.
  prepare: (body, cap, dialect) => chat.prepare(body, cap, { ...dialect, capField: 'max_tokens' }),
}
