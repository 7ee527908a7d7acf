/** What an operator should know, when it happens. */
export interface KernelEvent {
  /**
   * - `assumed`: an answer came without usage and was charged at worst; the message carries the fix
   * - `escape`: two layers counted differently, or a call went past the kernel
   * - `overrun`: a call used more than its worst case
   * - `budget-low`: a threshold (`warnAt`) of a budget was passed
   * - `suspended`: the holds of a silent process were moved to suspense
   * - `not-succeeded`: what a dead process held stays in suspense, since its chain cannot be believed
   * - `unbalanced`: the columns of a budget do not add up, so its tree is frozen
   * - `would-refuse`: observe mode let pass what enforcing would have refused
   * - `report-delayed`: the end of a hold is on disk and waits for the store
   * - `audit-gap`: an outcome could not be written to the chain file
   * - `trouble`: work in the background failed and will be tried again
   * - `revision-ignored`: a declared budget has a lower revision than the store
   */
  readonly type:
    | 'assumed'
    | 'escape'
    | 'overrun'
    | 'budget-low'
    | 'suspended'
    | 'not-succeeded'
    | 'unbalanced'
    | 'would-refuse'
    | 'report-delayed'
    | 'audit-gap'
    | 'trouble'
    | 'revision-ignored'
  readonly message: string
}

/** Prints events as process warnings, each type at most ten times: the default listener. */
export function warnOfEvents(): (event: KernelEvent) => void {
  const counts = new Map<string, number>()
  return ({ type, message }) => {
    const count = (counts.get(type) ?? 0) + 1
    counts.set(type, count)
    if (count <= 10) process.emitWarning(message, { type: 'HoldfastWarning', code: `holdfast:${type}` })
  }
}
