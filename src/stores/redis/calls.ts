// Calls of scripts, until there is an answer or the time is over. A client of Redis may queue what it cannot send,
// send it twice, or never say what became of it; so nothing is sent before the connection stands, every
// apply has a number and a nonce that the server remembers until the next one, and what the caller was told to
// be unknown can never be applied later: the server refuses it by number, and by the clock.

import { sleep } from '../../lib/clock.ts'
import type { HoldfastError } from '../../lib/errors.ts'
import type { RedisFace } from './client.ts'
import type { Script } from './script.ts'
import { certainError, insteadError, isPassing, type Instead } from './trouble.ts'

/** What a script answers when it did its work: the store's time, its version, and the rest. */
export type Answer = readonly [word: 'ok', nowMs: number, version: number, ...rest: readonly unknown[]]

/** No answer: the time is over, or the answer is of no use. */
export class NoAnswer extends Error {
  /** It may have been applied. */
  readonly sent: boolean
  /** The server does not know this client any more, or knows another one by its name. */
  readonly estranged: boolean

  constructor(message: string, { sent, estranged = false, cause }: { sent: boolean; estranged?: boolean; cause?: unknown }) {
    super(message, cause === undefined ? {} : { cause })
    this.sent = sent
    this.estranged = estranged
  }
}

/** Calls of one store. */
export interface RedisCalls {
  /** The highest version, and the latest time, that this client has seen. */
  readonly seenVersion: number
  readonly seenMs: number
  /** The store's time now, as well as this process can tell; at most as late as it is, unless its clock was set. */
  estimateMs(): number
  /**
   * Runs a script, again while the server cannot and after a lost answer; so it must be safe to run twice.
   *
   * @param parts - Made anew for each attempt, told how many ms are left.
   * @param until - By `performance.now()`.
   * @throws {HoldfastError} Certainly not applied. @throws {NoAnswer}
   */
  run(script: Script, keys: readonly string[], parts: (leftMs: number) => readonly string[], until: number): Promise<Answer>
}

/** How often a connection is looked at until it stands, ms. */
const LOOK_MS = 10
/** Between two attempts, ms. */
const PAUSE_MS = 50
/** Longest wait for one answer, as a share of the time of a call: one may be lost without a word. */
const ATTEMPT_SHARE = 1 / 3

/** Makes the calls of a store. `name` is for messages. */
export function createCalls(face: RedisFace, name: string, timeoutMs: number): RedisCalls {
  let seenVersion = 0
  let seenMs = 0
  let seenAt = 0
  let dead: HoldfastError | undefined
  const die = (error: HoldfastError): HoldfastError => (dead ??= error)

  function see(nowMs: number, version: number): void {
    seenVersion = Math.max(seenVersion, version)
    if (nowMs <= seenMs) return
    seenMs = nowMs
    seenAt = performance.now()
  }

  /** One attempt: the answer, or why there should be another one. */
  async function attempt(script: Script, keys: readonly string[], parts: readonly string[], leftMs: number): Promise<Answer | Missed> {
    let text: string
    try {
      text = String(await within(Math.min(leftMs, timeoutMs * ATTEMPT_SHARE), face.run(script, keys, parts), face.endings))
    } catch (error) {
      if (isPassing(error)) return { sent: false, cause: error }
      const certain = certainError(name, error)
      if (certain === undefined) return { sent: true, cause: error }
      throw certain.code === 'ERR_DAMAGE' ? die(certain) : certain
    }
    const answer = JSON.parse(text) as Answer | Instead
    if (isAnswer(answer)) {
      see(answer[1], answer[2])
      return answer
    }
    const [word, detail] = answer
    if (word === 'late') {
      see(Number(detail), seenVersion)
      return { sent: false, late: true, cause: new Error(`${name} was reached too late.`) }
    }
    if (word === 'failed' && isPassing(detail)) return { sent: false, cause: new Error(String(detail)) }
    const error = insteadError(name, answer, seenVersion)
    if (error !== undefined) throw word === 'failed' ? error : die(error)
    throw new NoAnswer(`${name} cannot say what became of a group any more (${word}).`, { sent: true, estranged: word !== 'forgotten' })
  }

  return {
    get seenVersion() {
      return seenVersion
    },
    get seenMs() {
      return seenMs
    },
    estimateMs: () => Math.floor(seenMs + performance.now() - seenAt),
    async run(script, keys, parts, until) {
      let lost: Missed | undefined
      for (let first = true; ; first = false) {
        if (dead !== undefined) throw dead
        try {
          if (!first) await sleep(PAUSE_MS)
          await connected(face, name, until)
          const leftMs = until - performance.now()
          const answer = await attempt(script, keys, parts(leftMs), leftMs)
          if (isAnswer(answer)) return answer
          // Of what went wrong the worst is told: an answer that was lost, then what the server said.
          if (lost === undefined || (!lost.sent && answer.late !== true)) lost = answer
        } catch (error) {
          // What this attempt found out says nothing about one whose answer was lost.
          if (lost === undefined || (error instanceof NoAnswer ? error.sent : !lost.sent)) throw error
          const cause = error instanceof NoAnswer ? lost.cause : error
          throw new NoAnswer(`${name} gave no answer in time${because(cause)}`, { sent: lost.sent, cause })
        }
      }
    },
  }
}

interface Missed {
  readonly sent: boolean
  readonly late?: true
  readonly cause: unknown
}

function isAnswer(answer: Answer | Instead | Missed): answer is Answer {
  return Array.isArray(answer) && answer[0] === 'ok'
}

/**
 * Waits until the client is connected.
 *
 * @throws {NoAnswer} @throws {HoldfastError} When the server will not have this client.
 */
export async function connected(face: RedisFace, name: string, until: number): Promise<void> {
  if (face.state === 'ready' && performance.now() < until) return
  let cause: unknown
  const stop = face.onError((error) => (cause = error))
  try {
    for (;;) {
      const { state } = face
      if (state === 'closed') throw new NoAnswer(`${name}: the client is not connected${because(cause)}`, { sent: false, cause })
      if (performance.now() >= until) {
        const what = state === 'ready' ? 'could not be asked in time' : 'cannot be reached'
        throw new NoAnswer(`${name} ${what}${because(cause)}`, { sent: false, cause })
      }
      if (state === 'ready') return
      await sleep(LOOK_MS)
      const certain = cause === undefined ? undefined : certainError(name, cause)
      if (certain !== undefined) throw certain
    }
  } finally {
    stop()
  }
}

function because(cause: unknown): string {
  const message = (cause as Error | undefined)?.message ?? ''
  return message === '' ? '.' : `: ${message}`
}

/**
 * Rejects when a promise takes longer, or when a connection ends meanwhile: then a refusal that comes later may be
 * that of a second sending. What becomes of the promise is nobody's business.
 */
export async function within<T>(ms: number, promise: Promise<T>, endings: Set<() => void>): Promise<T> {
  const { promise: over, reject } = Promise.withResolvers<never>()
  const ended = (): void => reject(new Error('The connection ended.'))
  // In a process that was busy or stopped the answer may be lying there: what has arrived is read before an immediate runs.
  const timer = setTimeout(() => setImmediate(() => reject(new Error(`No answer within ${Math.ceil(ms)} ms.`))), ms)
  endings.add(ended)
  try {
    return await Promise.race([promise, over])
  } finally {
    clearTimeout(timer)
    endings.delete(ended)
  }
}
