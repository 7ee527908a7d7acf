// The server of the stream bench, in a process of its own so that only the client's work is measured. It answers every chat
// completion with a stream: `max_tokens` events with a word each, and the usage. With `n: 2` it never ends the stream.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Asked {
  readonly max_tokens: number
  readonly n?: number
  readonly stream_options?: { readonly include_usage?: boolean }
}

const HEAD = { id: 'chatcmpl-bench', object: 'chat.completion.chunk', created: 1, model: 'gpt-4o-mini', system_fingerprint: 'fp' }
const event = (value: object): string => `data: ${JSON.stringify(value)}\n\n`

const server = createServer((request, response) => {
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => parts.push(part))
  request.on('end', () => {
    const { max_tokens: chunks, n = 1, stream_options: options } = JSON.parse(Buffer.concat(parts).toString()) as Asked
    // As OpenAI does it: who asks for usage gets a null in every event before.
    const extra = options?.include_usage === true ? { usage: null } : {}
    const word = event({ ...HEAD, choices: [{ index: 0, delta: { content: ' word' }, logprobs: null, finish_reason: null }], ...extra })
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const usage = { prompt_tokens: 5, completion_tokens: chunks, total_tokens: chunks + 5 }
    let sent = 0
    // Each in a turn of its own, as tokens come; written at once they would arrive as a few large chunks.
    const next = (): void => {
      response.write(word)
      sent += 1
      if (sent < chunks) return void setImmediate(next)
      if (n > 1) return
      if (options?.include_usage === true) response.write(event({ ...HEAD, choices: [], usage }))
      response.end('data: [DONE]\n\n')
    }
    next()
  })
})
server.keepAliveTimeout = 0
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.once('disconnect', () => process.exit())
