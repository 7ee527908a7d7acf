// Objects found by their braces, wherever a connection cuts them.

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createObjectSplitter } from '../../integrations/transport/json-objects.ts'

const objects = fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { maxKeys: 4 }), { maxLength: 5 })
const forms = fc.constantFrom(
  (list: readonly object[]) => JSON.stringify(list),
  (list: readonly object[]) => `[${list.map((one) => JSON.stringify(one, null, 2)).join('\n,\r\n')}\n]\n`,
  (list: readonly object[]) => list.map((one) => `${JSON.stringify(one)}\n`).join(''),
)

describe('a splitter of JSON objects', () => {
  test('finds the same objects in an array and in lines, whatever the chunks', () => {
    fc.assert(
      fc.property(objects, forms, fc.integer({ min: 1, max: 9 }), (list, form, size) => {
        const bytes = new TextEncoder().encode(form(list))
        const splitter = createObjectSplitter()
        const found: string[] = []
        for (let at = 0; at < bytes.length; at += size) found.push(...splitter.push(bytes.subarray(at, at + size)))
        expect(found.map((text) => JSON.parse(text) as unknown)).toEqual(list.map((one) => JSON.parse(JSON.stringify(one)) as unknown))
      }),
      { numRuns: 500 },
    )
  })

  test('keeps no view of a chunk, whose memory may be used again', () => {
    const splitter = createObjectSplitter()
    const chunk = new TextEncoder().encode('{"a":')
    expect(splitter.push(chunk)).toEqual([])
    chunk.fill(0)
    expect(splitter.push(new TextEncoder().encode('1}'))).toEqual(['{"a":1}'])
  })

  test('takes no object beyond 32 MB', () => {
    const splitter = createObjectSplitter()
    splitter.push(new TextEncoder().encode('{"a":"'))
    const piece = new Uint8Array(16 * 1024 * 1024).fill(97)
    splitter.push(piece)
    expect(() => splitter.push(piece)).toThrow(RangeError)
  })
})
