// A server whose streamed answers a test writes by hand, event by event, and that knows when its socket was closed.

import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { SUITE_MODEL } from '../../src/testing/integration-bench.ts'

/** One answer under way. */
export interface TappedAnswer {
  readonly response: ServerResponse
  /** What was asked for. */
  readonly body: Readonly<Record<string, unknown>>
  /** True once the client has closed the connection before the end. */
  readonly isCut: boolean
  /** Writes a delta of a chat completion. */
  say(text: string): void
  /** Writes the usage and the end. */
  finish(outputTokens?: number): void
}

/** A server on 127.0.0.1. */
export interface Tap {
  /** Ends in `/v1`. */
  readonly baseURL: string
  readonly answers: readonly TappedAnswer[]
}

const HEAD = { id: 'chatcmpl-tap', object: 'chat.completion.chunk', created: 1, model: SUITE_MODEL }

/** An event of a chat completion. */
export const chatEvent = (fields: object): string => `data: ${JSON.stringify({ ...HEAD, ...fields })}\n\n`
/** The event that adds this text. */
export const deltaEvent = (content: string): string => chatEvent({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })
/** The event that has the usage: 5 tokens in, so many out. */
export const usageEvent = (outputTokens: number, choices: readonly object[] = []): string =>
  chatEvent({ choices, usage: { prompt_tokens: 5, completion_tokens: outputTokens, total_tokens: 5 + outputTokens } })
/** What follows the last event. */
export const DONE = 'data: [DONE]\n\n'

/** Starts a server that is closed when the test ends. */
export async function openTap(): Promise<Tap> {
  const answers: TappedAnswer[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      let isCut = false
      response.on('close', () => (isCut = !response.writableFinished))
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      answers.push({
        response,
        body: JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>,
        get isCut() {
          return isCut
        },
        say: (text) => void response.write(deltaEvent(text)),
        finish(outputTokens = 2) {
          response.write(chatEvent({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }))
          response.end(usageEvent(outputTokens) + DONE)
        },
      })
    })
  })
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { baseURL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, answers }
}
