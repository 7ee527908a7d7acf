// One OS process of the demo. `node worker.ts researcher|writer|doomed|successor DATA BASE_URL STORE`

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI from 'openai'
import { generateText, isStepCount, streamText, tool, wrapLanguageModel } from 'ai'
import { createOpenAI } from '@ai-sdk/openai'
import { z } from 'zod'
import { findRefusal, formatUsd, openKernel, type Refusal, type Scope } from 'holdfast'
import { guardTools, holdfastMiddleware, toolApproval } from 'holdfast/ai-sdk'
import { guardFunctions, wrapOpenAI } from 'holdfast/openai'
import { askAgent, askGraph } from './graphs.ts'
import { openStore } from './store.ts'
import { BUDGET, BUDGETS, MAX_OUTPUT_TOKENS, MODEL, RULES, type WorkerMessage } from './story.ts'

const [role = 'researcher', data = '.holdfast', baseURL, address = 'file'] = process.argv.slice(2)
const tell = (message: WorkerMessage): void => void process.send?.(message)
const say = (text: string): void => tell({ type: 'say', text })

const words = new Set<unknown>()
process.on('message', (said) => words.add(said))

const opened = await openStore(address, data)
const kernel = await openKernel({
  store: opened.store,
  data,
  budgets: BUDGETS,
  rules: RULES,
  leaseTtlMs: 1_000,
  onEvent: ({ type, message }) => say(`(${type}) ${message}`),
})
const scope = kernel.scope({ agent: role, task: 'report-7', budget: BUDGET })
const apiKey = process.env['OPENAI_API_KEY'] ?? 'not-a-real-key'
const endpoint = baseURL === undefined || baseURL === '' ? {} : { baseURL }

/** Runs a job as a run of its own; says what became of it. Returns the refusal, if there was one. */
async function job(name: string, work: () => Promise<string>): Promise<Refusal | undefined> {
  return scope.enter(async () => {
    try {
      const text = await work()
      say(`${name}: ${text}`)
    } catch (error) {
      if (findRefusal(error) === undefined && scope.refusal === undefined) say(`${name}: failed, ${(error as Error).message}`)
    }
    const { refusal } = scope
    if (refusal !== undefined) tell({ type: 'refused', code: refusal.code, reason: refusal.message })
    if (refusal?.code === 'ERR_APPROVAL_REQUIRED')
      tell({ type: 'ask', agent: role, tool: 'send_email', argsHash: refusal.details.argsHash! })
    return refusal
  })
}

/** An agent of the Vercel AI SDK with tools. */
async function researcher(): Promise<void> {
  const model = wrapLanguageModel({ model: createOpenAI({ apiKey, ...endpoint })(MODEL), middleware: holdfastMiddleware(scope) })
  const parameters = { maxOutputTokens: MAX_OUTPUT_TOKENS }
  const tools = guardTools(scope, {
    search: tool({
      description: 'Search the archive',
      inputSchema: z.object({ query: z.string() }),
      execute: async ({ query }) => `three notes on ${query}`,
    }),
    delete_files: tool({
      description: 'Delete files',
      inputSchema: z.object({ path: z.string() }),
      execute: async () => 'everything is gone',
    }),
  })
  const agent = async (prompt: string): Promise<string> => {
    const { text, steps } = await generateText({
      model,
      ...parameters,
      prompt,
      tools,
      toolApproval: toolApproval(scope),
      stopWhen: isStepCount(4),
    })
    return `${steps.length} steps, “${text.slice(0, 40)}…”`
  }
  await job('search', () => agent('Look up what holds.'))
  await job('tidy', () => agent('Please tidy the disk.'))
  await job('graph', () => askGraph(scope, { apiKey, ...endpoint }))
  await job('headline', writeHeadline)
  await job('handoff', handOff)
  await job('stream on a flaky line', () =>
    textOf(streamText({ model, ...parameters, prompt: 'Read over a flaky line.', onError: () => undefined })),
  )
  await untilRefused(async (round) =>
    job(`draft ${round}`, () => textOf(streamText({ model, ...parameters, prompt: `Draft, part ${round}.`, onError: () => undefined }))),
  )
}

/** Both workers want to write the same key, and both have read it: one of them is told to decide anew. */
async function writeHeadline(): Promise<string> {
  const board = kernel.blackboard(scope, 'report')
  const entry = await board.read('headline')
  tell({ type: 'read' })
  await word('go')
  const id = await board.propose({ set: { headline: `${role} was first` }, reads: [entry] }).catch(unlessConflict)
  const version = id === undefined ? undefined : await board.commit(id).catch(unlessConflict)
  tell({ type: 'wrote', first: version !== undefined })
  const now = await board.read('headline')
  return 'value' in now ? `the board says ${JSON.stringify(now.value)}` : 'nothing stands there'
}

function unlessConflict(error: unknown): undefined {
  const refusal = findRefusal(error)
  if (refusal?.code !== 'ERR_CONFLICT') throw error
  tell({ type: 'refused', code: refusal.code, reason: refusal.message })
}

/** Hands a piece of work to another agent, with money of its own; what is not spent comes back. */
async function handOff(): Promise<string> {
  await using handoff = await scope.handoff({ to: 'analyst', budget: { usd: '0.0006' }, instruction: 'Check one figure.' })
  const client = wrapOpenAI(new OpenAI({ apiKey, ...endpoint }), handoff.scope)
  await client.responses.create({ model: MODEL, input: handoff.message, max_output_tokens: MAX_OUTPUT_TOKENS })
  const { spent, returned } = await handoff.close()
  tell({ type: 'handed', spent: spent['usd']!, returned: returned['usd']! })
  return `the analyst spent ${formatUsd(spent['usd']!)} of it, ${formatUsd(returned['usd']!)} came back`
}

async function textOf({ text }: { readonly text: PromiseLike<string> }): Promise<string> {
  return `streamed ${(await text).split(' ').length} words`
}

/** A client of the OpenAI SDK with tool calls by hand, and streams. */
async function writer(): Promise<void> {
  const client = wrapOpenAI(new OpenAI({ apiKey, ...endpoint }), scope)
  const functions = guardFunctions(scope, { send_email: async ({ to }: { to: string }) => `sent to ${to}` })
  const mail = (): Promise<string> => mailTheBoard(client, functions)
  const refusal = await job('mail', mail)
  if (refusal?.code === 'ERR_APPROVAL_REQUIRED') {
    await word('approved')
    await job('mail, approved', mail)
  }
  await job('agent', () => askAgent(scope, { apiKey, ...endpoint }))
  await job('headline', writeHeadline)
  await untilRefused(async (round) =>
    job(`polish ${round}`, async () => {
      const stream = await client.responses.create({
        model: MODEL,
        input: `Polish, part ${round}.`,
        max_output_tokens: MAX_OUTPUT_TOKENS,
        stream: true,
      })
      let events = 0
      for await (const event of stream) events += event.type === 'response.output_text.delta' ? 1 : 0
      return `streamed ${events} pieces`
    }),
  )
}

async function mailTheBoard(client: OpenAI, functions: { send_email: (args: { to: string }) => Promise<string> }): Promise<string> {
  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Please mail the board.' }]
  const tools: OpenAI.ChatCompletionTool[] = [
    {
      type: 'function',
      function: { name: 'send_email', parameters: { type: 'object', properties: { to: { type: 'string' }, subject: { type: 'string' } } } },
    },
  ]
  const ask = async (): Promise<OpenAI.ChatCompletionMessage> => {
    const completion = await client.chat.completions.create({ model: MODEL, messages, tools, max_completion_tokens: MAX_OUTPUT_TOKENS })
    return completion.choices[0]!.message
  }
  const asked = await ask()
  messages.push(asked)
  for (const call of asked.tool_calls ?? []) {
    if (call.type !== 'function') continue
    const content = await functions.send_email(JSON.parse(call.function.arguments) as { to: string })
    say(`send_email: “${content}”`)
    messages.push({ role: 'tool', tool_call_id: call.id, content })
  }
  return `“${String((await ask()).content).slice(0, 40)}…”`
}

/** Waits for a word of the orchestrator, if it has not come yet. */
async function word(wanted: 'approved' | 'go'): Promise<void> {
  while (!words.has(wanted)) await once(process, 'message')
}

/** Goes on until the budget has no room: the end that every agent comes to. */
async function untilRefused(work: (round: number) => Promise<Refusal | undefined>): Promise<void> {
  for (let round = 1; round <= 100; round++) {
    if ((await work(round))?.code === 'ERR_BUDGET_EXCEEDED') return
    // Agents think between calls; and a person can follow what happens.
    await sleep(250)
  }
}

/** Begins a call that it will not live to see the end of. */
async function doomed(working: Scope): Promise<void> {
  const client = wrapOpenAI(new OpenAI({ apiKey, ...endpoint, maxRetries: 0 }), working)
  say('asks for a very long think, and will be killed in the middle of it')
  await client.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'Have a very long think.' }],
    max_completion_tokens: MAX_OUTPUT_TOKENS,
  })
}

async function successor(): Promise<void> {
  const client = wrapOpenAI(new OpenAI({ apiKey, ...endpoint }), scope)
  await job('takes over', async () => {
    const { output_text: text } = await client.responses.create({
      model: MODEL,
      input: 'Have a short think.',
      max_output_tokens: MAX_OUTPUT_TOKENS,
    })
    return `“${text.slice(0, 40)}…”`
  })
}

const roles: Record<string, () => Promise<void>> = { researcher, writer, doomed: () => doomed(scope), successor }
await roles[role]!()
await kernel.close()
await opened.close()
process.disconnect?.()
