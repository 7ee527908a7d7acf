// A wire between a client and a server that can be cut, held and silenced at the worst moment: after the server
// has done its work and before the client has heard of it.

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** What the wire does with what comes along. */
export interface Proxy {
  readonly port: number
  /** How many connections were cut between a script and its answer. */
  readonly cuts: number
  /** Cuts the connection of the next script, once the server has answered it. */
  cutNextAnswer(): void
  /** Keeps what the server says to itself. */
  mute(muted: boolean): void
  /** Keeps what clients say until it is let go. */
  hold(held: boolean): void
  /** Takes its connections from the clients; what is held of them can still be delivered. */
  orphan(): { deliver(): void }
  /** Replaces text of the same length in what the server says. */
  replace(from: string, to: string): void
  /** Ends all connections, and refuses new ones until it is up again. */
  down(): Promise<void>
  up(): Promise<void>
  stop(): Promise<void>
}

/** Starts a wire to a server. */
export async function startProxy(serverPort: number): Promise<Proxy> {
  const state = { armed: false, muted: false, held: false, cuts: 0 }
  const replaced: [from: string, to: string][] = []
  const sockets = new Set<Socket>()
  const release = new Set<() => void>()
  const clients = new Set<Socket>()
  const wires = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1')
    let doomed = false
    let waiting: Buffer[] = []
    const flush = (): void => {
      for (const chunk of waiting.splice(0)) server.write(chunk)
      // The server went while things were held: its client hears of that now.
      if (server.destroyed) client.destroy()
    }
    release.add(flush)
    clients.add(client)
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        // What is held still arrives, as a packet may after its sender is gone.
        if (!state.held) for (const other of [client, server]) other.destroy()
      })
    }
    client.on('data', (chunk: Buffer) => {
      if (state.armed && /eval(?:sha)?\r\n/i.test(chunk.toString('latin1'))) {
        state.armed = false
        doomed = true
      }
      waiting.push(chunk)
      if (!state.held) flush()
    })
    server.on('data', (chunk: Buffer) => {
      if (doomed) {
        state.cuts += 1
        client.destroy()
        server.destroy()
      } else if (!state.muted) {
        const text = replaced.reduce((said, [from, to]) => said.replaceAll(from, to), chunk.toString('latin1'))
        client.write(Buffer.from(text, 'latin1'))
      }
    })
  })
  const listen = async (port: number): Promise<void> => {
    wires.listen(port, '127.0.0.1')
    await once(wires, 'listening')
  }
  const down = async (): Promise<void> => {
    const closed = new Promise((resolve) => wires.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
  }
  await listen(0)
  const { port } = wires.address() as AddressInfo
  return {
    port,
    get cuts() {
      return state.cuts
    },
    cutNextAnswer: () => void (state.armed = true),
    mute: (muted) => void (state.muted = muted),
    hold(held) {
      state.held = held
      if (!held) for (const flush of release) flush()
    },
    orphan() {
      const orphaned = [...release]
      release.clear()
      for (const client of clients) client.destroy()
      clients.clear()
      return {
        deliver() {
          for (const flush of orphaned) flush()
        },
      }
    },
    replace: (from, to) => void replaced.push([from, to]),
    down,
    up: () => listen(port),
    stop: down,
  }
}
