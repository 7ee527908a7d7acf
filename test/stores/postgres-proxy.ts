// A wire between a client and a Postgres server that can be cut and held at the worst moment: after the server has
// done its work and before the client has heard of it, or before the server has heard of anything.

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** What the wire does with groups, which it knows by the name of their function. */
export interface PostgresProxy {
  readonly port: number
  /** Cuts the connection of the next group, once the server has answered it. */
  cutNextAnswer(): void
  /** Keeps the next group, and whatever its client does then, until it is let go. */
  holdNextGroup(): void
  /** Lets a group go that was kept, if there is one, and resolves when the server has answered it. */
  letGo(): Promise<void>
  stop(): Promise<void>
}

/** Starts a wire to a server. */
export async function startPostgresProxy(serverPort: number): Promise<PostgresProxy> {
  const state = { cut: false, hold: false }
  const sockets = new Set<Socket>()
  let held: { readonly server: Socket; readonly chunks: Buffer[]; readonly release: () => void } | undefined
  const wires = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1')
    let cutting = false
    let holding = false
    const chunks: Buffer[] = []
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        // What is held still arrives, as a packet may after its sender is gone.
        if (!holding) for (const other of [client, server]) other.destroy()
      })
    }
    client.on('data', (chunk: Buffer) => {
      const isGroup = chunk.includes('apply_1')
      if (isGroup && state.cut) {
        state.cut = false
        cutting = true
      }
      if (isGroup && state.hold) {
        state.hold = false
        holding = true
        held = { server, chunks, release: () => (holding = false) }
      }
      if (holding) chunks.push(chunk)
      else server.write(chunk)
    })
    server.on('data', (chunk: Buffer) => {
      if (cutting) client.destroy()
      else client.write(chunk)
    })
  })
  wires.listen(0, '127.0.0.1')
  await once(wires, 'listening')
  return {
    port: (wires.address() as AddressInfo).port,
    cutNextAnswer: () => void (state.cut = true),
    holdNextGroup: () => void (state.hold = true),
    async letGo() {
      state.hold = false
      const kept = held
      held = undefined
      if (kept === undefined || kept.server.destroyed) return
      const { server, chunks, release } = kept
      release()
      const answered = new Promise((resolve) => server.once('data', resolve).once('close', resolve))
      for (const chunk of chunks.splice(0)) server.write(chunk)
      await answered
    },
    async stop() {
      for (const socket of sockets) socket.destroy()
      wires.close()
      await once(wires, 'close')
    },
  }
}
