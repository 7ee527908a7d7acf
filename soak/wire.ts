// A wire between the processes and their server, which chaos cuts: one connection, all of them, or the one that is
// about to carry an answer, so that the server has done its work and nobody hears of it.

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A wire that can be cut. */
export interface Wire {
  readonly port: number
  /** Cuts all connections. */
  cutAll(): void
  /** Cuts this one of them; any number will do. */
  cutOne(which: number): void
  /** Cuts the next connection that an answer comes along on, before it arrives. */
  cutNextAnswer(): void
  /** Holds back everything that the server says until it is let go: answers come late, or after their time. */
  hold(held: boolean): void
  stop(): Promise<void>
}

/** Starts a wire to a server. A server that is down is a connection that ends at once. */
export async function startWire(serverPort: number): Promise<Wire> {
  const pairs = new Set<() => void>()
  const flushes = new Set<() => void>()
  const state = { armed: false, held: false }
  const wires = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1')
    const late: Buffer[] = []
    const flush = (): void => {
      for (const chunk of late.splice(0)) client.write(chunk)
    }
    const cut = (): void => {
      pairs.delete(cut)
      flushes.delete(flush)
      client.destroy()
      server.destroy()
    }
    pairs.add(cut)
    flushes.add(flush)
    for (const socket of [client, server]) ignoreErrors(socket).on('close', cut)
    client.on('data', (chunk: Buffer) => void server.write(chunk))
    server.on('data', (chunk: Buffer) => {
      if (state.armed) {
        state.armed = false
        return cut()
      }
      late.push(chunk)
      if (!state.held) flush()
    })
  })
  wires.listen(0, '127.0.0.1')
  await once(wires, 'listening')
  return {
    port: (wires.address() as AddressInfo).port,
    cutAll() {
      for (const cut of pairs) cut()
    },
    cutOne(which) {
      const open = [...pairs]
      if (open.length > 0) open[which % open.length]!()
    },
    cutNextAnswer: () => void (state.armed = true),
    hold(held) {
      state.held = held
      if (!held) for (const flush of flushes) flush()
    },
    async stop() {
      const closed = new Promise((resolve) => wires.close(resolve))
      for (const cut of pairs) cut()
      await closed
    },
  }
}

function ignoreErrors(socket: Socket): Socket {
  return socket.on('error', () => undefined)
}
