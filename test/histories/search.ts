// Is there an order of concurrent operations that a sequential model allows? The search of Wing and Gong ("Testing
// and verifying concurrent objects", 1993): take an operation that nothing definite has to come before, let the model
// do it, go on, and step back where the model says no; with the memory of Lowe ("Testing for linearizability", 2017):
// the same operations taken and the same state again need not be tried twice.
//
// An operation without a return may come at any place after its invocation, or be left out.

/** An operation as the search sees it. */
export interface Timed {
  readonly invoked: number
  /** `null`: open-ended, and may never have happened. */
  readonly returned: number | null
  /** Of an open-ended one: it comes before whatever was invoked after this, if it comes at all. */
  readonly settled?: number | undefined
}

/** What operations do, one after the other. */
export interface Model<State, Op extends Timed> {
  readonly initial: State
  /** The state after the operation, or `undefined` where it could not have had its answer. */
  apply(state: State, operation: Op): State | undefined
  /** Two states with the same text are the same state. */
  text(state: State): string
}

/** What a search found. */
export type Found<Op> =
  | { readonly verdict: 'order'; readonly order: readonly Op[] }
  /** No order. `next`: the operations of which none could follow the longest order that was found. */
  | { readonly verdict: 'none'; readonly order: readonly Op[]; readonly next: readonly Op[] }
  /** Not decided within the steps. */
  | { readonly verdict: 'undecided' }

/** Most operations of one search: the problem is NP-complete, so histories are kept short. */
export const MAX_OPERATIONS: number = 200
const MAX_STEPS = 2_000_000
const BITS = 16

/** Looks for an order. @throws {RangeError} For more than {@link MAX_OPERATIONS} operations. */
export function findOrder<State, Op extends Timed>(model: Model<State, Op>, given: readonly Op[], maxSteps: number = MAX_STEPS): Found<Op> {
  if (given.length > MAX_OPERATIONS) throw new RangeError(`A window has at most ${MAX_OPERATIONS} operations, got ${given.length}.`)
  const operations = given.toSorted((a, b) => a.invoked - b.invoked)
  const taken = operations.map(() => false)
  const bits = new Uint16Array(Math.ceil(operations.length / BITS))
  const tried = new Set<string>()
  const order: Op[] = []
  let longest: { readonly order: readonly Op[]; readonly next: readonly Op[] } = { order: [], next: [] }
  let steps = 0

  function mark(index: number, value: boolean): void {
    taken[index] = value
    bits[Math.floor(index / BITS)]! ^= 1 << (index % BITS)
  }

  /** What may come next: whatever was invoked before the first return that is still to come. Definite ones first. */
  function candidates(): { readonly definite: readonly number[]; readonly open: readonly number[] } {
    const left = operations.flatMap((_, index) => (taken[index] ? [] : [index]))
    const horizon = Math.min(...left.map((index) => operations[index]!.returned ?? Infinity))
    const free = left.filter((index) => operations[index]!.invoked <= horizon)
    const latest = Math.max(0, ...operations.flatMap(({ invoked }, index) => (taken[index] ? [invoked] : [])))
    return {
      definite: free.filter((index) => operations[index]!.returned !== null),
      open: free.filter((index) => operations[index]!.returned === null && (operations[index]!.settled ?? Infinity) >= latest),
    }
  }

  function search(state: State): boolean {
    const { definite, open } = candidates()
    if (definite.length === 0) return true
    const seen = `${String.fromCharCode(...bits)}|${model.text(state)}`
    if (tried.has(seen)) return false
    tried.add(seen)
    if (longest.next.length === 0 || order.length > longest.order.length)
      longest = { order: [...order], next: definite.map((index) => operations[index]!) }
    for (const index of [...definite, ...open]) {
      if (++steps > maxSteps) return false
      const after = model.apply(state, operations[index]!)
      if (after === undefined) continue
      mark(index, true)
      order.push(operations[index]!)
      if (search(after)) return true
      order.pop()
      mark(index, false)
    }
    return false
  }

  if (search(model.initial)) return { verdict: 'order', order }
  return steps > maxSteps ? { verdict: 'undecided' } : { verdict: 'none', ...longest }
}
