// The journal stands on one promise of the file system: a write(2) with O_APPEND puts its bytes, whole and in
// one place, at the end of the file. Local file systems keep it. Network and FUSE ones do not.

import { statfsSync } from 'node:fs'
import { HoldfastError } from '../../lib/errors.ts'

// Source: statfs(2) of Linux, and mount(2) of macOS for APFS.
const LOCAL: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext2/3/4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlayfs'],
  [0x2fc12fc1, 'zfs'],
  [0x1a, 'apfs'],
])

// Only to name what was found; whatever is not on the list above is refused, known or not.
const NETWORK: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x65735546, 'FUSE'],
  [0x01021997, '9p'],
  [0x5346414f, 'AFS'],
  [0x00c36400, 'Ceph'],
  [0x47504653, 'GPFS'],
  [0x0bd00bd0, 'Lustre'],
  [0x786f4256, 'vboxsf'],
  [0x7461636f, 'OCFS2'],
  [0x01161970, 'GFS2'],
])

/** The statfs type of the file system that a directory lies on. */
export function fileSystemType(directory: string): number {
  return statfsSync(directory).type >>> 0
}

/**
 * Refuses a directory on a file system that is not known to append whole lines.
 *
 * @throws {HoldfastError} `ERR_STORE`, naming the file system and the override.
 */
export function assertLocalFileSystem(directory: string, type: number): void {
  if (LOCAL.has(type)) return
  const name = NETWORK.get(type) ?? `of unknown type 0x${type.toString(16)}`
  throw new HoldfastError(
    'ERR_STORE',
    `${directory} lies on a file system (${name}) that is not known to append whole lines, so several processes could ` +
      'lose each other’s writes. Use a local disk, or pass `unsafeFileSystem: true` if exactly one process uses this store.',
  )
}
