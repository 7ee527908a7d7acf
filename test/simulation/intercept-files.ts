// The kernel writes its chain with `node:fs`. Below one folder that no machine has, those calls go to the disk of the
// world that makes them; everything else, and everyone else, gets the real ones.

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { currentPlatform } from './intercept.ts'

/** Everything below it is on the disk of a world. */
export const ROOT = '/simulated'
/** Descriptors from here on are those of a world. */
export const FIRST_DESCRIPTOR = 1_000_000
/** Says which run of the operating system this is; a world has its own. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

/** What of `node:fs` a chain needs. */
export interface VirtualFiles {
  mkdirSync(path: string): void
  existsSync(path: string): boolean
  readFileSync(path: string): string
  readdirSync(path: string): string[]
  statSync(path: string): object | undefined
  openSync(path: string, flags: string): number
  renameSync(path: string, to: string): void
  rmSync(path: string): void
  createReadStream(path: string): AsyncIterable<Buffer>
  closeSync(descriptor: number): void
  fstatSync(descriptor: number): object
  readSync(descriptor: number, buffer: Buffer, offset: number, length: number, position: number): number
  ftruncateSync(descriptor: number, size: number): void
  writeSync(descriptor: number, text: string): number
}

const BY_PATH = [
  'mkdirSync',
  'existsSync',
  'readFileSync',
  'readdirSync',
  'statSync',
  'openSync',
  'renameSync',
  'rmSync',
  'createReadStream',
] as const
const BY_DESCRIPTOR = ['closeSync', 'fstatSync', 'readSync', 'ftruncateSync', 'writeSync'] as const

type Call = (...args: unknown[]) => unknown
let isInstalled = false

/** Puts the switch in place, once. */
export function installFiles(): void {
  if (isInstalled) return
  isInstalled = true
  const real = fs as unknown as Record<string, Call>
  const switched: Record<string, Call> = {}
  const intercept = (name: keyof VirtualFiles, isOurs: (first: unknown) => boolean): void => {
    const original = real[name]!
    switched[name] = (...args) => {
      const files = isOurs(args[0]) ? currentPlatform()?.files : undefined
      return files === undefined ? original(...args) : (files[name] as unknown as Call)(...args)
    }
  }
  for (const name of BY_PATH)
    intercept(name, (path) => typeof path === 'string' && (path.startsWith(ROOT) || (path === BOOT_ID && name === 'readFileSync')))
  for (const name of BY_DESCRIPTOR) intercept(name, (descriptor) => typeof descriptor === 'number' && descriptor >= FIRST_DESCRIPTOR)
  Object.assign(real, switched)
  syncBuiltinESMExports()
}
