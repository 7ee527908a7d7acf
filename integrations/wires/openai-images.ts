// Images, billed in tokens or by the piece.

import { readResponsesUsage } from '../../src/metering/usage/openai.ts'
import { boundImageRequest } from '../../src/metering/worst-case/openai-images.ts'
import { unitUsage } from './unit-usage.ts'
import { eventOf, finding, modelInBody, type Body, type Finding, type Wire } from './wire.ts'

const LAST_EVENT = /"type":\s*"image_(?:generation|edit)\.completed"/

/** `POST …/images/generations`, `…/images/edits` and `…/images/variations`. */
export const images: Wire = {
  name: 'images',
  accepts: 'either',
  modelOf: modelInBody,
  bound: ({ body, bytes }, options) => boundImageRequest(body, bytes, options),
  prepare: (body) => body,
  isStream: ({ body }) => body['stream'] === true || body['stream'] === 'true',
  findIn,
  events() {
    let found: Finding | undefined
    let seen = 0
    return {
      // Each image reports for itself: of several, none speaks for all.
      get found() {
        return seen === 1 ? found : undefined
      },
      // More images may follow, so only the end of the stream is the end.
      ended: false,
      look(data) {
        if (!LAST_EVENT.test(data)) return true
        seen += 1
        found = findIn(eventOf(data) ?? {})
        return true
      },
    }
  },
}

/**
 * In tokens where the answer says so, else by the piece. The author of an SVG reports apart from the image, at the price of
 * another model.
 */
function findIn({ usage, svg_usage: author, data }: Body): Finding | undefined {
  if (author != null) return undefined
  const images = Array.isArray(data) ? data.length : 0
  return finding(usage == null ? unitUsage({ images }) : readResponsesUsage(usage), undefined, undefined)
}
