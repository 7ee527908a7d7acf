// Wakes those who watch. A message may be lost with its connection, or be denied altogether; so every new
// connection wakes everyone, and a slow poll stands behind it. Nothing here keeps a process alive.

import type { RedisFace } from './client.ts'
import type { Watchers } from '../watchers.ts'

/** A change that no message told of is noticed after this long, ms. */
const POLL_MS = 2_000
/** Before a connection that ended is made anew, ms. */
const RETRY_MS = 500

/** What to follow, and whom to wake. */
export interface FollowOptions {
  readonly face: RedisFace
  readonly channel: string
  readonly watchers: Watchers
  /** The store's version. */
  readonly version: () => Promise<number>
}

/** Starts to follow. Returns the stop function. */
export function followChanges({ face, channel, watchers, version }: FollowOptions): () => void {
  let stopped = false
  let end: (() => void) | undefined
  let polled: number | undefined
  let polling = false

  function heard(text: string): void {
    try {
      for (const key of JSON.parse(text) as string[]) watchers.touch(key)
    } catch {
      // Too many keys to name, or not a message of ours.
      watchers.touchAll()
    }
  }

  function again(): void {
    end = undefined
    if (!stopped) setTimeout(() => void listen(), RETRY_MS).unref()
  }

  async function listen(): Promise<void> {
    if (stopped) return
    try {
      const opened = await face.listen(channel, heard, again)
      if (stopped) return opened()
      end = opened
      watchers.touchAll()
    } catch {
      // Not reachable now, or not allowed at all: the poll goes on.
      again()
    }
  }

  async function poll(): Promise<void> {
    if (polling) return
    // While the client is away there is nothing to ask; whatever changed meanwhile wakes everyone afterwards.
    if (face.state !== 'ready') return void (polled = undefined)
    polling = true
    try {
      const found = await version()
      if (found !== polled) watchers.touchAll()
      polled = found
    } catch {
      // The watchers must wake to find out what is wrong.
      watchers.touchAll()
    } finally {
      polling = false
    }
  }

  const timer = setInterval(() => void poll(), POLL_MS)
  timer.unref()
  void poll()
  void listen()
  return () => {
    stopped = true
    clearInterval(timer)
    end?.()
  }
}
