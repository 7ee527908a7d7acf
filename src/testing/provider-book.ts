// The books of the simulated provider: which requests came, and what was billed for them.

import { assertAmount } from '../lib/amounts.ts'
import type { Plan } from './provider-answers.ts'
import type { MediaCharge } from './provider-media.ts'
import type { Bill, BillLine, ProviderPrices, ProviderRequest } from './provider.ts'

const MAX_REQUESTS = 10_000
const MAX_LOG_BYTES = 64_000_000
const MAX_LINES = 100_000

/** A line of the bill while it is written. */
export type Line = { -readonly [Member in keyof BillLine]: BillLine[Member] }

/** What was asked and what it cost. */
export interface Book {
  arrived(): void
  record(request: Omit<ProviderRequest, 'index'>, bytes: number): ProviderRequest
  charge(plan: Plan): Line
  chargeMedia(charge: MediaCharge): void
  bill(): Bill
  requests(): readonly ProviderRequest[]
  reset(): void
}

function emptyPages() {
  return { arrived: 0, next: 0, billed: 0, nanoUsd: 0, bytes: 0, lines: [] as Line[], log: [] as [ProviderRequest, number][] }
}

/** An empty book. */
export function createBook(prices: ProviderPrices): Book {
  let state = emptyPages()
  const add = (charged: Omit<Line, 'nanoUsd' | 'at'>): Line => {
    const { inputTokens, cachedTokens, outputTokens } = charged
    const nanoUsd = (inputTokens - cachedTokens) * prices.input + cachedTokens * prices.cachedInput + outputTokens * prices.output
    assertAmount('bill.nanoUsd', state.nanoUsd + nanoUsd)
    const line: Line = { ...charged, nanoUsd, at: Date.now() }
    state.billed += 1
    state.nanoUsd += nanoUsd
    state.lines.push(line)
    if (state.lines.length > MAX_LINES) state.lines.shift()
    return line
  }
  return {
    arrived() {
      state.arrived += 1
    },
    record(request, bytes) {
      const recorded = { index: state.next++, ...request }
      state.bytes += bytes
      state.log.push([recorded, bytes])
      while (state.log.length > MAX_REQUESTS || state.bytes > MAX_LOG_BYTES) state.bytes -= state.log.shift()![1]
      return recorded
    },
    charge({ id, endpoint, model, usage: { inputTokens, cachedTokens, outputTokens } }) {
      return add({ id, endpoint, model, inputTokens, cachedTokens, outputTokens, completed: false })
    },
    chargeMedia: (charge) => void add({ ...charge, cachedTokens: 0, completed: true }),
    bill: () => ({
      requests: state.arrived,
      billed: state.billed,
      nanoUsd: state.nanoUsd,
      lines: state.lines.map((line) => ({ ...line })),
    }),
    requests: () => state.log.map(([request]) => request),
    reset() {
      state = emptyPages()
    },
  }
}
