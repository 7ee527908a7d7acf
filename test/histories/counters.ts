// The interval check of counters: cheap, complete in time, and about money. At each instant a counter lies between
// two sums. What surely happened to it by then, and what may have happened:
//
//   low(t)  = adds above 0 that were acknowledged by t + adds below 0 that were sent by t
//   high(t) = adds above 0 that were sent by t         + adds below 0 that were acknowledged by t
//
// Nothing that was surely granted may be beyond the bound, and each answer must lie between the two sums at some
// instant between its call and its return. Needs no search, and says less than one: orders are not tried.

import { describe, keysOfAll, type Anomaly, type Operation } from './history.ts'

interface CounterAdd {
  readonly source: Operation
  readonly by: number
  readonly min: number
  readonly max: number
  readonly invoked: number
  readonly returned: number
  /** `lost`: unknown. Otherwise what it was answered. */
  readonly answer: 'lost' | 'ok' | { readonly reason: string; readonly value: number }
  readonly value?: number
}

interface Sums {
  readonly at: number
  readonly low: number
  readonly high: number
}

/** Checks every key that is only ever added to and read. */
export function checkCounters(operations: readonly Operation[]): readonly Anomaly[] {
  return keysOfAll(operations)
    .filter((key) => isCounter(operations, key))
    .flatMap((key) => checkCounter(operations, key))
}

function isCounter(operations: readonly Operation[], key: string): boolean {
  const batches = operations.flatMap(({ call }) => (call.do === 'apply' ? call.batches : []))
  const isSet = batches.some(({ set = [], delete: deleted = [] }) => set.some((one) => one.key === key) || deleted.includes(key))
  return !isSet && batches.some(({ add = [] }) => add.some((one) => one.key === key))
}

function checkCounter(operations: readonly Operation[], key: string): readonly Anomaly[] {
  const adds = operations.flatMap((source) => addsOf(source, key))
  const sums = sumsOf(adds, operations)
  const anomaly = (message: string): Anomaly => ({ check: 'counter', message: `counter ${key}: ${message}` })
  return [
    ...beyondBounds(adds, sums).map(anomaly),
    ...adds.flatMap((add) => wrongAdd(add, sums)).map(anomaly),
    ...operations.flatMap((source) => wrongReads(source, key, sums)).map(anomaly),
  ]
}

function addsOf(source: Operation, key: string): readonly CounterAdd[] {
  const { call, invoked } = source
  if (call.do === 'read') return []
  return call.batches.flatMap(({ add = [] }, index) =>
    add.flatMap(({ by, min = -Infinity, max = Infinity, ...one }, place): readonly CounterAdd[] => {
      if (one.key !== key) return []
      const found = call.answers?.[index]
      const common = { source, by, min, max, invoked, returned: source.returned ?? Infinity }
      if (call.answers === null || found === undefined) return [{ ...common, returned: Infinity, answer: 'lost' as const }]
      if (found.outcome === 'ok') {
        const value = found.values?.[place]
        return [{ ...common, answer: 'ok' as const, ...(value === undefined ? {} : { value }) }]
      }
      // Where another part of the batch was refused, this add did not happen and nothing is said of it.
      if (found.outcome === 'conflict' || found.which !== key || typeof found.value !== 'number') return []
      return [{ ...common, answer: { reason: found.reason, value: found.value } }]
    }),
  )
}

/** The two sums at each instant at which one of them, or what is asked of them, changes. */
function sumsOf(adds: readonly CounterAdd[], operations: readonly Operation[]): readonly Sums[] {
  const written = adds.filter(({ answer }) => answer === 'ok' || answer === 'lost')
  const instants = new Set(operations.flatMap(({ invoked, returned }) => [invoked, returned ?? Infinity]))
  return [...instants]
    .sort((a, b) => a - b)
    .map((at) => {
      const sent = written.filter(({ invoked }) => invoked <= at)
      // An answer that comes at this very instant may still be on its way.
      const answered = sent.filter(({ answer, returned }) => answer === 'ok' && returned < at)
      return {
        at,
        low: sum(answered.filter(({ by }) => by > 0)) + sum(sent.filter(({ by }) => by < 0)),
        high: sum(sent.filter(({ by }) => by > 0)) + sum(answered.filter(({ by }) => by < 0)),
      }
    })
}

function sum(adds: readonly CounterAdd[]): number {
  return adds.reduce((total, { by }) => total + by, 0)
}

/** The sum of what was surely granted is within the bound that every add had, at each instant. */
function beyondBounds(adds: readonly CounterAdd[], sums: readonly Sums[]): readonly string[] {
  const max = Math.max(...adds.filter(({ by }) => by > 0).map((add) => add.max))
  const min = Math.min(...adds.filter(({ by }) => by < 0).map((add) => add.min))
  const over = sums.find(({ low }) => low > Math.max(max, 0))
  const under = sums.find(({ high }) => high < Math.min(min, 0))
  return [
    ...(over === undefined ? [] : [`${over.low} were surely granted by ${over.at}, beyond the bound ${max}`]),
    ...(under === undefined ? [] : [`at most ${under.high} was left at ${under.at}, below the bound ${min}`]),
  ]
}

function wrongAdd(add: CounterAdd, sums: readonly Sums[]): readonly string[] {
  const { answer, by, min, max, value, source } = add
  if (answer === 'lost') return []
  const said = `: ${describe(source)}`
  if (answer === 'ok') {
    // What it came to includes itself.
    const fits = (low: number, high: number): boolean => {
      const [least, most] = [Math.max(low, min), Math.min(high, max)]
      return value === undefined ? least <= most : value >= least && value <= most
    }
    const own = { low: Math.max(by, 0), high: Math.min(by, 0) }
    const possible = during(add, sums).some(({ low, high }) => fits(low + own.low, high + own.high))
    return possible ? [] : [`granted, though it could not fit or come to that at any instant of its own${said}`]
  }
  const past = (found: number): boolean => (answer.reason === 'max' ? found + by > max : answer.reason === 'min' ? found + by < min : true)
  const possible = past(answer.value) && during(add, sums).some(({ low, high }) => answer.value >= low && answer.value <= high)
  return possible ? [] : [`refused, though there was room, or by a value that it did not have${said}`]
}

function wrongReads(source: Operation, key: string, sums: readonly Sums[]): readonly string[] {
  const { call, invoked, returned } = source
  if (call.do !== 'read') return []
  return call.keys.flatMap((read, index) => {
    if (read !== key) return []
    const value = call.entries[index]?.value ?? 0
    const within = during({ invoked, returned: returned ?? Infinity }, sums)
    const possible = typeof value === 'number' && within.some(({ low, high }) => value >= low && value <= high)
    return possible ? [] : [`read as ${JSON.stringify(value)}, which it was at no instant of that read`]
  })
}

function during({ invoked, returned }: { readonly invoked: number; readonly returned: number }, sums: readonly Sums[]): readonly Sums[] {
  return sums.filter(({ at }) => at >= invoked && at <= returned)
}
