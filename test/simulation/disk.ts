// The disk of a world: the chain files of its processes and the locks beside them, in memory. A process that crashes
// leaves its files and loses its locks, and each write is a point at which it can crash.

import type { Actor, World } from './world.ts'
import { FIRST_DESCRIPTOR, ROOT, installFiles, type VirtualFiles } from './intercept-files.ts'

interface File {
  /** What each write left. */
  writes: string[]
  changedAtMs: number
  /** Who has an open transaction on it. */
  holder: Actor | undefined
}

/** What the disk does wrong, for the seeded bugs. */
export interface DiskFaults {
  /** A lock can be had although its holder lives. */
  locksNothing?: boolean
  /** So many last writes of a process go with it. */
  losesLast?: number
}

/** The disk of a world. */
export interface Disk {
  readonly faults: DiskFaults
  /** Its files, as somebody sees them. */
  filesOf(actor: Actor): VirtualFiles
  /** `node:sqlite` for somebody, as far as the locks of chains need it. */
  sqliteOf(actor: Actor): object
  /** The latest version of the store that a chain of a directory notes. */
  notedVersion(directory: string): number
  /** Somebody is gone. */
  release(actor: Actor): void
}

/** Makes an empty disk. */
export function createDisk(world: World): Disk {
  installFiles()
  const files = new Map<string, File>()
  const open = new Map<number, { readonly file: File; readonly actor: Actor }>()
  const folders = new Set<string>()
  const faults: DiskFaults = {}
  let nextDescriptor = FIRST_DESCRIPTOR

  const found = (path: string): File => {
    const file = files.get(path)
    if (file === undefined) throw Object.assign(new Error(`ENOENT: no such file, ${path}`), { code: 'ENOENT' })
    return file
  }
  const bytesOf = (file: File): Buffer => Buffer.from(file.writes.join(''))
  const statusOf = (file: File) => ({
    size: bytesOf(file).length,
    ctimeMs: file.changedAtMs,
    mtimeMs: file.changedAtMs,
    isFile: () => true,
  })

  function filesOf(actor: Actor): VirtualFiles {
    return {
      mkdirSync: (path) => void folders.add(path),
      existsSync: (path) => files.has(path) || folders.has(path),
      readFileSync: (path) => (path.startsWith(ROOT) ? bytesOf(found(path)).toString() : 'one run of the machine'),
      readdirSync: (path) => [...files.keys()].filter((name) => name.startsWith(`${path}/`)).map((name) => name.slice(path.length + 1)),
      statSync: (path) => (files.has(path) ? statusOf(found(path)) : undefined),
      openSync(path, flags) {
        if (flags === 'ax') files.set(path, { writes: [], changedAtMs: actor.platform.wallMs(), holder: undefined })
        open.set(nextDescriptor, { file: found(path), actor })
        return nextDescriptor++
      },
      renameSync(path, to) {
        if (!actor.alive) return
        files.set(to, found(path))
        files.delete(path)
      },
      rmSync: (path) => void (actor.alive && files.delete(path)),
      async *createReadStream(path) {
        yield bytesOf(found(path))
      },
      closeSync: (descriptor) => void open.delete(descriptor),
      fstatSync: (descriptor) => statusOf(open.get(descriptor)!.file),
      readSync: (descriptor, buffer, offset, length, position) =>
        bytesOf(open.get(descriptor)!.file).copy(buffer, offset, position, position + length),
      ftruncateSync(descriptor, size) {
        const { file } = open.get(descriptor)!
        file.writes.pop()
        if (bytesOf(file).length !== size)
          world.fail(`a chain is cut to ${size} bytes, and its last record ends at ${bytesOf(file).length}`)
      },
      writeSync(descriptor, text) {
        const { file } = open.get(descriptor)!
        if (world.nowMs < actor.diskFullUntilMs) {
          world.meet('a full disk')
          // A part of it may be there, and its writer takes that back.
          if (text.length % 2 === 0) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
          file.writes.push(text.slice(0, 10))
          return 10
        }
        if (world.interact(actor, 'a chain write')) {
          const type =
            /"type":"(succeeded|suspended|not-succeeded|orphan-closed|unbalanced|correct-done|reclaim-done|write-off-done)"/.exec(text)?.[1]
          if (type !== undefined) world.meet(`on record: ${type}`)
          file.writes.push(text)
          // The clock that stamps a file is the one of its machine.
          file.changedAtMs = actor.platform.wallMs()
        }
        return Buffer.byteLength(text)
      },
    }
  }

  function sqliteOf(actor: Actor): object {
    return {
      DatabaseSync: class {
        readonly #file: File

        constructor(address: string) {
          const path = decodeURIComponent(new URL(address).pathname)
          if (address.endsWith('mode=rwc')) files.set(path, { writes: [], changedAtMs: actor.platform.wallMs(), holder: undefined })
          this.#file = found(path)
        }

        exec(): void {
          const { holder } = this.#file
          if (holder !== undefined && holder !== actor && faults.locksNothing !== true) throw new Error('database is locked')
          if (actor.alive) this.#file.holder = actor
        }

        close(): void {
          if (this.#file.holder === actor) this.#file.holder = undefined
        }
      },
    }
  }

  function release(actor: Actor): void {
    for (const file of files.values()) if (file.holder === actor) file.holder = undefined
    for (const { file, actor: writer } of open.values())
      if (writer === actor && faults.losesLast !== undefined) file.writes.splice(-faults.losesLast)
  }

  function notedVersion(directory: string): number {
    const chains = [...files].filter(([path]) => path.startsWith(`${directory}/chains/`) && path.endsWith('.jsonl'))
    const notes = chains.flatMap(([, { writes }]) =>
      [...writes.join('').matchAll(/"store":\{"bytes":(\d+)/g)].map(([, bytes]) => Number(bytes)),
    )
    return Math.max(0, ...notes)
  }

  return { faults, filesOf, sqliteOf, notedVersion, release }
}
