// Batches: the hold of each stays open after it was begun, until its results have been read. Its deadline charges it at
// worst meanwhile, and results that are read later correct that.

import { answerOf, type ModelCall } from '../common/model-call.ts'
import { endedUnbilled, messageBatches, pricedBy, readLine } from '../wires/anthropic-batches.ts'
import type { Body, Finding } from '../wires/wire.ts'
import type { Backgrounds, OpenCall } from './backgrounds.ts'
import { createObjectSplitter } from './json-objects.ts'
import { parseJson } from './request-body.ts'
import { responseWith } from './response-with.ts'

/** A batch that was begun. It may be open for a day, so it keeps nothing of its requests but what decides their price. */
interface OpenBatch extends Pick<OpenCall, 'scope' | 'settlement'> {
  readonly model: string
  readonly dimensions: readonly string[]
  readonly used: ModelCall['used']
  readonly requests: ReadonlyMap<string, Body>
}

/** What a batch used, as far as its results were read. */
interface Sum {
  readonly amounts: Record<string, number>
  priceSource: string | undefined
}

/** `…/v1/messages/batches/{id}`, and its results. */
const ONE_BATCH = /\/v1\/messages\/batches\/([^/]+)(\/results)?\/?$/
const MAX_ID_LENGTH = 256
/** Most requests of all open batches together: five of the largest. */
const MAX_OPEN_REQUESTS = 500_000

/**
 * Adds the memory of batches to that of calls in the background.
 *
 * @param max - Most open batches; beyond it the oldest is charged at worst.
 * @param maxRequests - Most requests of all open batches together, likewise.
 */
export function withBatches(others: Backgrounds, max: number, maxRequests: number = MAX_OPEN_REQUESTS): Backgrounds {
  const running = new Map<string, OpenBatch>()
  let openRequests = 0

  function forget(id: string): OpenBatch | undefined {
    const open = running.get(id)
    if (running.delete(id)) openRequests -= open!.requests.size
    return open
  }

  function remember(id: string, open: OpenBatch): void {
    // One list of results tells of one batch: of the other nobody will ever know.
    void forget(id)
      ?.settlement.charge('another batch has the same id')
      .catch(() => undefined)
    running.set(id, open)
    openRequests += open.requests.size
    while (running.size > max || (openRequests > maxRequests && running.size > 1)) {
      const { scope, settlement } = forget(running.keys().next().value!)!
      // Nobody waits for it: what the store does not take now, it is told again.
      void settlement.charge('too many batches are open').catch(() => undefined)
      const message = `More than ${max} batches or ${maxRequests} requests of batches are open, so the oldest was charged at its worst case. Read their results, or raise \`maxBackgrounds\`.`
      scope.report({ type: 'assumed', message })
    }
  }

  return {
    get size() {
      return others.size + running.size
    },
    follow(asked, open) {
      if (asked.wire !== messageBatches) return others.follow(asked, open)
      let seen: Body = {}
      return {
        wire: { ...messageBatches, findIn: (answer) => void (seen = answer) },
        stillRuns() {
          const { id, processing_status: status } = seen
          if (typeof id !== 'string' || id.length > MAX_ID_LENGTH || typeof status !== 'string') return false
          const { scope, settlement, call } = open
          const { resource: model, worst = {} } = call.action
          remember(id, {
            scope,
            settlement,
            model,
            dimensions: Object.keys(worst),
            used: call.used,
            requests: pricedBy(asked.request.body),
          })
          return true
        },
      }
    },
    async watch(path, send) {
      const [, id, isResults] = ONE_BATCH.exec(path) ?? []
      const open = id === undefined ? undefined : running.get(id)
      if (id === undefined || open === undefined) return others.watch(path, send)
      const response = await send()
      // Anything else, such as a part of them, shows no results to their end.
      if (response.status !== 200 || response.body === null) return response
      // Two readers at once may both come to the end; the first of them settles.
      const end = async (sum: Sum | undefined): Promise<void> => (forget(id) === undefined ? undefined : endBatch(id, open, sum))
      if (isResults !== undefined) return responseWith(response, response.body.pipeThrough(watching(open, end)))
      const text = await response.text()
      const shown = parseJson(text)
      if (typeof shown === 'object' && shown !== null && endedUnbilled(shown as Body, id, open.requests.size)) await end(nothingOf(open))
      return responseWith(response, text)
    },
  }
}

/** Settles a batch with the sum of its results; charges the worst case where they do not make one. */
async function endBatch(id: string, { model, scope, settlement }: OpenBatch, sum: Sum | undefined): Promise<void> {
  if (sum !== undefined) {
    const { amounts, priceSource } = sum
    return settlement.settle(amounts, answerOf({ priceSource }, id))
  }
  await settlement.charge('the results of the batch lack a usage that could be priced')
  const message = `The results of a batch of \`${model}\` lack a request, or have one without a usage that could be priced, and it was charged at its worst case. Add what it used to openKernel({ prices }), or send smaller batches.`
  scope.report({ type: 'assumed', message })
}

/**
 * Looks at results as they pass, and ends the batch before their reader sees the last of them. Results that break off, or
 * that their reader leaves, end nothing: they can be read again.
 */
function watching(open: OpenBatch, end: (sum: Sum | undefined) => Promise<void>): TransformStream<Uint8Array, Uint8Array> {
  const reader = createReader(open)
  return new TransformStream({
    async transform(chunk, controller) {
      reader.push(chunk)
      if (reader.isWhole) await end(reader.sum)
      controller.enqueue(chunk)
    },
    async flush() {
      await end(reader.sum)
    },
  })
}

/** What is not named when a hold is settled counts as used up, so each dimension is there. */
function nothingOf({ dimensions }: OpenBatch): Sum {
  return { amounts: Object.fromEntries(dimensions.map((dimension) => [dimension, 0])), priceSource: undefined }
}

/** Reads the lines of results. Whatever is odd in one of them leaves the batch without a sum. */
function createReader(open: OpenBatch) {
  const { used: usedBy, requests } = open
  const splitter = createObjectSplitter()
  const seen = new Set<string>()
  const sum = nothingOf(open)
  let isOdd = false

  function take(text: string): boolean {
    const line = readLine(parseJson(text), requests)
    if (line?.found === undefined || seen.has(line.customId)) return false
    seen.add(line.customId)
    return line.found === 'unbilled' || add(line.found)
  }

  function add({ usage, serviceTier }: Finding): boolean {
    // A batch is a discount: what has no price with it is never dearer than without.
    const used = usedBy(usage, serviceTier) ?? usedBy(usage, serviceTier?.replace(/^batch\+/, ''))
    if (used === undefined) return false
    for (const [dimension, amount] of Object.entries(used.amounts)) sum.amounts[dimension] = (sum.amounts[dimension] ?? 0) + amount
    sum.priceSource ??= used.priceSource
    return Object.values(sum.amounts).every(Number.isSafeInteger)
  }

  return {
    push(chunk: Uint8Array): void {
      if (isOdd) return
      try {
        isOdd = !splitter.push(chunk).every(take)
      } catch (error) {
        // A line that is longer than any answer: what it used is not known, and whoever reads it is not disturbed.
        if (!(error instanceof RangeError)) throw error
        isOdd = true
      }
    },
    /** True once every request has its line. */
    get isWhole() {
      return !isOdd && seen.size === requests.size
    },
    /** What all requests used; `undefined` where that is not known. */
    get sum() {
      return this.isWhole ? sum : undefined
    },
  }
}
