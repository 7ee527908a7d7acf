// The promise about versions: they come from one rising counter of the store and never repeat. So no two acknowledged
// batches have the same one, a batch that began after another was acknowledged has a higher one, and so has one that
// stands later in the same group.

import { describe, precedes, type Anomaly, type Operation } from './history.ts'

interface Versioned {
  readonly version: number
  readonly place: number
  readonly source: Operation
}

/** Checks the versions of all acknowledged batches. */
export function checkVersions(operations: readonly Operation[]): readonly Anomaly[] {
  const batches = operations.flatMap(versionsOf).toSorted((a, b) => a.version - b.version)
  return batches.flatMap((later, index) =>
    batches.slice(0, index).flatMap((earlier): readonly Anomaly[] => {
      const about = `${earlier.version} of ${describe(earlier.source)} and ${later.version} of ${describe(later.source)}`
      if (earlier.version === later.version) return [{ check: 'versions', message: `a version repeats: ${about}` }]
      const sameGroup = earlier.source === later.source && earlier.place > later.place
      if (!sameGroup && !precedes(later.source, earlier.source)) return []
      return [{ check: 'versions', message: `versions go back: ${about}` }]
    }),
  )
}

function versionsOf(source: Operation): readonly Versioned[] {
  const { call } = source
  if (call.do === 'read') return []
  return (call.answers ?? []).flatMap((answer, place) => (answer.outcome === 'ok' ? [{ version: answer.version, place, source }] : []))
}
