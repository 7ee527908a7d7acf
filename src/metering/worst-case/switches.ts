// Fields by which a server does more than its format says: searches, answers with another model, reads what is stored. No
// answer of these formats counts all of that, so a request with one has no bound.

import { asFields, type Fields } from '../usage/disjoint.ts'
import { unmetered } from './bound.ts'

/** Why a field has no bound, and what to do without it. */
const SWITCHES: Readonly<Record<string, readonly [fault: string, fix: string]>> = {
  models: ['`models` lets the provider choose one of several, so the price is not known', 'Leave out `models`'],
  // https://openrouter.ai/docs/features/presets (2026-11-22)
  preset: ['`preset` may bring another model, tools and a prompt, so the price is not known', 'Send what the preset says in the request'],
  // https://openrouter.ai/announcements/introducing-web-search-via-the-api (2026-11-22: results are put into the prompt, and have a fee)
  plugins: ['`plugins` switch on searches and the like, whose number has no limit', 'Leave out `plugins`'],
  // Alibaba's: https://hexdocs.pm/req_llm/ReqLLM.Providers.Alibaba.html (2026-11-22)
  enable_search: ['`enable_search` lets the provider search, and no answer counts what that brings', 'Leave out `enable_search`'],
  // https://learn.microsoft.com/azure/ai-services/openai/references/on-your-data (2026-11-22)
  data_sources: ['`data_sources` adds documents to the prompt that cannot be counted here', 'Find them yourself, and send their text'],
}

/**
 * Refuses what is switched on.
 *
 * @throws {Refusal} `ERR_UNMETERED`
 */
export function refuseSwitches(fields: Fields): void {
  for (const [field, [fault, fix]] of Object.entries(SWITCHES)) if (isOn(fields[field])) throw unmetered(fault, fix)
}

function isOn(value: unknown): boolean {
  return value != null && value !== false && !(Array.isArray(value) && value.length === 0)
}

/** Whether a request to Gemini in the format of OpenAI names a cache, whose tokens are not in its bytes. */
export function namesCache({ extra_body, google }: Fields): boolean {
  const inExtra = asFields(asFields(extra_body)?.['google'])
  return (inExtra ?? asFields(google))?.['cached_content'] != null
}
