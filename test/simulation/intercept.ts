// The kernel takes its clock as an option, but its timers, its stopwatch and its randomness are those of the platform.
// Inside of a simulated process they are replaced by those of its world. Who runs is carried by AsyncLocalStorage, so
// whatever runs outside of a world (vitest, the command line) keeps the real ones, also at the same time.

import { AsyncLocalStorage } from 'node:async_hooks'
import crypto from 'node:crypto'
import type { VirtualFiles } from './intercept-files.ts'

/** A timer of a world. */
export interface VirtualTimer {
  cancelled: boolean
}

/** What a world gives to the code that runs in it. */
export interface Platform {
  /** Calls back after `ms` milliseconds of virtual time, as a task of whoever asks. */
  startTimer(callback: () => void, ms: number, every: boolean): VirtualTimer
  /** Milliseconds of virtual time since the world began. */
  elapsedMs(): number
  /** Unix ms, as the clock on the wall of whoever asks shows them. */
  wallMs(): number
  /** From 0 up to 1. */
  random(): number
  /** Random bytes that were drawn so far. */
  bytesDrawn: number
  /** The disk. */
  readonly files: VirtualFiles
  /** The module that code in this world gets instead of a builtin one. */
  builtin(name: string): object | undefined
}

const platforms = new AsyncLocalStorage<Platform>()
let isInstalled = false

/** The platform of the code that runs now; `undefined` outside of every world. */
export const currentPlatform = (): Platform | undefined => platforms.getStore()

/** Runs `task` on a platform, with everything that it starts. */
export function onPlatform<T>(platform: Platform, task: () => T): T {
  install()
  return platforms.run(platform, task)
}

type Callback = (...args: unknown[]) => void

/** Puts the switch between real and virtual in place, once. It stays: outside of a world it changes nothing. */
function install(): void {
  if (isInstalled) return
  isInstalled = true
  installTimers()
  const realNow = performance.now.bind(performance)
  const realDate = Date.now.bind(Date)
  const realRandom = Math.random.bind(Math)
  Object.defineProperty(performance, 'now', { value: () => currentPlatform()?.elapsedMs() ?? realNow() })
  Date.now = () => currentPlatform()?.wallMs() ?? realDate()
  Math.random = () => (currentPlatform() === undefined ? realRandom() : currentPlatform()!.random())
  installRandomBytes()
  const realBuiltin = process.getBuiltinModule.bind(process)
  const builtin = (name: string): object | undefined => currentPlatform()?.builtin(name) ?? realBuiltin(name)
  Object.assign(process, { getBuiltinModule: builtin })
}

function installTimers(): void {
  const real = { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate }
  const starting =
    (isReal: (callback: Callback, ms?: number, ...args: unknown[]) => unknown, every: boolean) =>
    (callback: Callback, ms = 0, ...args: unknown[]): unknown => {
      const platform = currentPlatform()
      if (platform === undefined) return isReal(callback, ms, ...args)
      return handleOf(platform.startTimer(() => callback(...args), ms, every))
    }
  const stopping =
    (isReal: (timer: never) => void) =>
    (timer: unknown): void => {
      if (timer instanceof VirtualHandle) timer.timer.cancelled = true
      else isReal(timer as never)
    }
  const setImmediateOf = (callback: Callback, ...args: unknown[]): unknown => {
    const platform = currentPlatform()
    return platform === undefined ? real.setImmediate(callback, ...args) : handleOf(platform.startTimer(() => callback(...args), 0, false))
  }
  Object.assign(globalThis, {
    setTimeout: Object.assign(starting(real.setTimeout as never, false), real.setTimeout),
    setInterval: starting(real.setInterval as never, true),
    setImmediate: Object.assign(setImmediateOf, real.setImmediate),
    clearTimeout: stopping(real.clearTimeout),
    clearInterval: stopping(real.clearInterval),
    clearImmediate: stopping(real.clearImmediate),
  })
}

/** What `setTimeout` returns inside of a world. */
class VirtualHandle {
  readonly timer: VirtualTimer

  constructor(timer: VirtualTimer) {
    this.timer = timer
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

const handleOf = (timer: VirtualTimer): VirtualHandle => new VirtualHandle(timer)

function installRandomBytes(): void {
  const realFill = crypto.randomFillSync.bind(crypto) as (bytes: Uint8Array) => Uint8Array
  const realBytes = crypto.randomBytes.bind(crypto) as (size: number) => Buffer
  const fill = <T extends Uint8Array>(bytes: T): T => {
    const platform = currentPlatform()
    if (platform === undefined) return realFill(bytes) as T
    platform.bytesDrawn += bytes.length
    for (let at = 0; at < bytes.length; at++) bytes[at] = Math.floor(platform.random() * 256)
    return bytes
  }
  // Only the default import of `node:crypto` sees these; that is what the ids of the kernel are made with.
  Object.assign(crypto, {
    randomFillSync: fill,
    randomBytes: (size: number) => (currentPlatform() === undefined ? realBytes(size) : fill(Buffer.alloc(size))),
  })
}
