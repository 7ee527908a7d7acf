// A `fetch` for any client that takes one: of OpenAI-, Anthropic- and Gemini-shaped endpoints.

import '../src/lib/runtime.ts'

export { findRefusal } from '../src/lib/errors.ts'
export { guardFetch } from './transport/guard-fetch.ts'
export type { GuardOptions } from './transport/guard-fetch.ts'
