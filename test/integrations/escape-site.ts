// A site for tests of the escape alarm: a provider on a real socket, a kernel that shares nothing with it but what a
// guard tells, and the alarm between them.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { watchEscapes } from '../../integrations/escapes.ts'
import { fileStore, memoryStore, openKernel, type Kernel, type KernelEvent, type Scope } from '../../src/index.ts'
import { startProvider, type ProviderOptions, type SimulatedProvider } from '../../src/testing/provider.ts'

/** A provider, and a kernel with one budget of 1 USD. */
export interface EscapeSite {
  readonly kernel: Kernel
  readonly scope: Scope
  readonly provider: SimulatedProvider
  /** Of the provider, as the alarm is told to watch it. */
  readonly host: string
  readonly events: readonly KernelEvent[]
}

/** Options of {@link onSite}. */
export interface EscapeSiteOptions {
  /** Directory of a file store. @default the store is in memory */
  readonly data?: string
  /** @default an echo of the last user message */
  readonly script?: ProviderOptions['script'] | undefined
}

/** Runs on a site of its own, and closes it. */
export async function onSite(run: (site: EscapeSite) => Promise<void>, { data, script }: EscapeSiteOptions = {}): Promise<void> {
  const events: KernelEvent[] = []
  const provider = await startProvider(script === undefined ? {} : { script })
  const kernel = await openKernel({
    store: data === undefined ? memoryStore() : fileStore(data),
    budgets: { acme: { usd: 1 } },
    onEvent: (event) => events.push(event),
  })
  const scope = kernel.scope({ agent: 'watcher', task: 'watch', budget: 'acme' })
  try {
    await run({ kernel, scope, provider, host: new URL(provider.baseURL).host, events })
  } finally {
    await kernel.close()
    await provider.close()
  }
}

/** Messages of the escapes that were reported so far. */
export const escapesOf = ({ events }: Pick<EscapeSite, 'events'>): readonly string[] =>
  events.flatMap(({ type, message }) => (type === 'escape' ? [message] : []))

/** Runs with the alarm on, and takes it off again; what it reported. */
export async function watched(site: EscapeSite, run: () => Promise<unknown>, hosts: readonly string[] = []): Promise<readonly string[]> {
  const stop = watchEscapes(site.scope, { hosts: [site.host, ...hosts] })
  try {
    await run()
  } finally {
    stop()
  }
  return escapesOf(site)
}

/** A server on 127.0.0.1 for the time of `run`, which is given its host and port. WebSockets open, and close with their first message. */
export async function withServer(answer: RequestListener, run: (host: string) => Promise<void>): Promise<void> {
  const server = createServer(answer)
  server.on('upgrade', ({ headers }, socket) => {
    const accept = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
    socket.on('data', () => socket.end())
    socket.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await run(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}
