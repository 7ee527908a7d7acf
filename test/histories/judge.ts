// All checks of a history.

import { checkCounters } from './counters.ts'
import { checkCycles } from './cycles.ts'
import type { Anomaly, Operation } from './history.ts'
import { checkKeys, checkSnapshots } from './linearizable.ts'
import { checkVersions } from './versions.ts'

/** What is wrong with a history; nothing, if a store that keeps its promises could have answered so. */
export function judge(operations: readonly Operation[]): readonly Anomaly[] {
  return [checkVersions, checkCounters, checkKeys, checkCycles, checkSnapshots].flatMap((check) => check(operations))
}
