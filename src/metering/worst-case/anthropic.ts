// The most that a request to the Messages API of Anthropic can use, read from its body.
// Facts: https://platform.claude.com/docs/en/api/messages and the pages named below, looked up 2026-11-22.

import { assertAmount } from '../../lib/amounts.ts'
import { asFields, type Fields } from '../usage/disjoint.ts'
import { asList, bodyFields } from './body.ts'
import { refuseSwitches } from './switches.ts'
import { boundFacts, unmetered, type BoundOptions, type RequestBound } from './bound.ts'

/**
 * Most turns of one request with server tools; each reads the context again. After them the answer is `pause_turn`.
 *
 * @see https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools
 */
export const MAX_SERVER_TURNS = 10

/** The largest window that a beta of `anthropic-beta` opens for a model whose own is smaller. */
const LONG_CONTEXT_TOKENS = 1_000_000

// What Anthropic adds to a request with tools (up to 804 tokens), and to one with a format of its output: rounded up.
// https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing
const TOOL_PROMPT_TOKENS = 1_024
const FORMAT_PROMPT_TOKENS = 1_024
// Definitions that the request only names: a text editor has 700 tokens, a computer 735, a toolset up to 6,600.
const NAMED_TOOL_TOKENS = 2_048
const NAMED_TOOLSET_TOKENS = 8_192

/** Tools that the caller runs, by their type without its date. */
const CLIENT_TOOLS: ReadonlyMap<string, number> = new Map([
  ['custom', 0],
  ['bash', NAMED_TOOL_TOKENS],
  ['text_editor', NAMED_TOOL_TOKENS],
  ['computer', NAMED_TOOL_TOKENS],
  ['memory', NAMED_TOOL_TOKENS],
  ['computer_toolset', NAMED_TOOLSET_TOKENS],
  ['browser_toolset', NAMED_TOOLSET_TOKENS],
])

/** Tools that Anthropic runs and bills by nothing but their tokens. */
const FREE_SERVER_TOOLS = new Set(['web_fetch', 'mcp_toolset', 'tool_search_tool_bm25', 'tool_search_tool_regex'])

/** Edits of the context that only leave something out. Any other may be a sampling of its own. */
const CLEARING_EDITS = new Set(['clear_tool_uses_20250919', 'clear_thinking_20251015'])

/** What a walk through a request has found. */
interface Found {
  /** Something whose tokens are not in the bytes of the request. */
  named: boolean
  addedTokens: number
  /** Whether Anthropic runs any tool. */
  serverTools: boolean
  /** Calls of tools with a fee, by name. */
  readonly calls: Map<string, number>
  codeExecution: boolean
  /** Whether a tool is there beside which Anthropic does not bill the execution of code. */
  freeExecution: boolean
}

/**
 * Bounds a request to `POST /v1/messages`.
 *
 * Server tools make one request up to {@link MAX_SERVER_TURNS} turns, each of which reads the context again and may
 * put out `max_tokens`. Execution of code is billed by time, which no answer says: it counts as one call of
 * `code_execution` for each request that may run it, at the fee that the price of the model gives it.
 *
 * @param body The parsed JSON of the request.
 * @param bytes Length of that JSON as it is sent, in UTF-8 bytes. Byte-level tokenizers make no more tokens.
 * @param betas What its `anthropic-beta` header lists.
 * @throws {Refusal} `ERR_UNMETERED` when something in it has no bound, saying what to set.
 * @throws {TypeError | RangeError} When a cap is not one that bounds anything; `max_tokens: 0` is not.
 */
export function boundAnthropicRequest(
  body: unknown,
  bytes: number,
  options: BoundOptions = {},
  betas: readonly string[] = [],
): RequestBound {
  const fields = bodyFields(body)
  refuseUnbounded(fields)
  refuseSwitches(fields)
  const { model, max_tokens, tools, system, messages, output_config, output_format } = fields
  const found = scanRequest(fields)
  scanContent(system, found)
  for (const message of asList(messages)) scanContent(asFields(message)?.['content'], found)
  const paidExecution = found.codeExecution && !found.freeExecution
  if (paidExecution) found.calls.set('code_execution', 1)
  const calls = [...found.calls.values()].reduce((sum, one) => sum + one, 0)
  if (asFields(output_config)?.['format'] != null || output_format != null) found.addedTokens += FORMAT_PROMPT_TOKENS
  const turns = found.serverTools ? MAX_SERVER_TURNS : 1
  return boundFacts(
    {
      model: typeof model === 'string' ? model : '',
      caps: { max_tokens: capOf(max_tokens, fields['thinking']) },
      maxToolCalls: calls,
      named: found.named || found.serverTools,
      hostedTools: [...found.calls.keys()],
      hasTools: asList(tools).length > 0,
      addedTokens: found.addedTokens,
      turns,
      choices: turns,
    },
    bytes,
    withLongContext(options, betas),
  )
}

/** Whether a request may run code that Anthropic bills by time. */
export function paysForCodeExecution(body: Fields): boolean {
  const { codeExecution, freeExecution } = scanRequest(body)
  return codeExecution && !freeExecution
}

/** With interleaved thinking a budget may exceed the cap, and what then bounds one answer is not said: both together do. */
function capOf(maxTokens: unknown, thinking: unknown): unknown {
  const budget = asFields(thinking)?.['budget_tokens']
  return typeof maxTokens === 'number' && typeof budget === 'number' && budget >= maxTokens ? maxTokens + budget : maxTokens
}

function withLongContext(options: BoundOptions, betas: readonly string[]): BoundOptions {
  const { contextWindow } = options
  if (contextWindow === undefined || !betas.some((beta) => beta.startsWith('context-1m'))) return options
  return { ...options, contextWindow: Math.max(contextWindow, LONG_CONTEXT_TOKENS) }
}

/** What lets a request use another model, or sample more often than its answer was asked for. */
function refuseUnbounded(fields: Fields): void {
  const { fallbacks, compaction, thread, context_management: management } = fields
  if (fallbacks != null)
    throw unmetered(
      '`fallbacks` may answer with another model, which has another price',
      'Catch the refusal of the model, and call the other one',
    )
  if (asFields(thread)?.['type'] === 'continue')
    throw unmetered(
      'The request continues a thread that the server holds, so neither its length nor its tools are known here',
      'Send the whole conversation, without `thread`',
    )
  const edits = asList(asFields(management)?.['edits']).map((edit) => asFields(edit)?.['type'])
  if (compaction != null || edits.some((type) => typeof type !== 'string' || !CLEARING_EDITS.has(type)))
    throw unmetered(
      'Compaction samples the whole context once more, and `max_tokens` is not said to bound what that puts out',
      'Let a request of its own summarize the conversation',
    )
}

function scanRequest({ tools, mcp_servers, container }: Fields): Found {
  const found: Found = {
    named: false,
    addedTokens: 0,
    serverTools: false,
    calls: new Map(),
    codeExecution: false,
    freeExecution: false,
  }
  scanTools(tools, found)
  if (asList(mcp_servers).length > 0) found.serverTools = true
  // Skills run in the container of code execution.
  if (asList(asFields(container)?.['skills']).length > 0) addCodeExecution(found)
  return found
}

function scanTools(tools: unknown, found: Found): void {
  const list = asList(tools)
  if (list.length > 0) found.addedTokens += TOOL_PROMPT_TOKENS
  for (const tool of list) {
    const { type, max_uses: limit } = asFields(tool) ?? { type: 'unknown' }
    if (type == null) continue
    const text = typeof type === 'string' ? type : 'unknown'
    const [name, date = ''] = [text.replace(/_\d{8}$/, ''), /\d{8}$/.exec(text)?.[0]]
    const clientTokens = CLIENT_TOOLS.get(name)
    found.addedTokens += clientTokens ?? NAMED_TOOL_TOKENS
    if (clientTokens !== undefined) continue
    found.serverTools = true
    // https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#usage-and-pricing
    if (/^web_(?:search|fetch)$/.test(name) && date >= '20260209') found.freeExecution = true
    if (name === 'advisor')
      throw unmetered(
        'The advisor tool asks another model, which has another price',
        'Leave it out, and ask the other model in a tool of your own',
      )
    if (name === 'code_execution') addCodeExecution(found)
    else if (!FREE_SERVER_TOOLS.has(name)) addCalls(name.slice(0, 64), limit, found)
  }
}

function addCodeExecution(found: Found): void {
  found.serverTools = true
  found.codeExecution = true
}

function addCalls(name: string, limit: unknown, found: Found): void {
  if (limit == null)
    throw unmetered(
      `The server tool \`${name}\` has no limit, so its cost has no bound`,
      `Set \`max_uses\` on it: { type: '${name}_…', max_uses: 5 }`,
    )
  assertAmount('max_uses', limit)
  found.calls.set(name, (found.calls.get(name) ?? 0) + limit)
}

// Lists of what is known to be in the bytes of a request, since a kind of content that is new tomorrow must not count
// as free. Encrypted content has more bytes than tokens even where it was compressed before.
const TEXT_BLOCKS = new Set([
  'text',
  'thinking',
  'redacted_thinking',
  'tool_use',
  'server_tool_use',
  'mcp_tool_use',
  'web_search_tool_result',
  'code_execution_tool_result',
  'bash_code_execution_tool_result',
  'text_editor_code_execution_tool_result',
  'tool_removal',
])
const NESTING_BLOCKS = new Set(['tool_result', 'mcp_tool_result', 'search_result', 'web_fetch_tool_result', 'web_fetch_result'])

function scanContent(content: unknown, found: Found): void {
  for (const block of asList(content)) {
    const fields = asFields(block)
    const type = String(fields?.['type'])
    if (NESTING_BLOCKS.has(type)) scanContent(fields?.['content'], found)
    else if (type === 'document') scanDocument(fields?.['source'], found)
    else if (type === 'tool_addition') scanAddition(fields?.['tool'], found)
    else if (!TEXT_BLOCKS.has(type) && !type.endsWith('_tool_result_error')) found.named = true
  }
}

function scanDocument(source: unknown, found: Found): void {
  const { type, content } = asFields(source) ?? {}
  if (type === 'content') scanContent(content, found)
  else if (type !== 'text') found.named = true
}

/** A tool that is added in the middle of a conversation. */
function scanAddition(tool: unknown, found: Found): void {
  const { type, definition } = asFields(tool) ?? {}
  if (type === 'tool_definition') scanTools([definition], found)
  else found.named = true
}
