// Keys as bytes: the order of the bytes is the order of the UTF-16 code units, and the way back is exact.

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { keyBytes, keyOfBytes, listRange } from '../../src/stores/key-bytes.ts'

const unit = fc.constantFrom('a', '/', '~', 'é', '\u07ff', '\u0800', '\ud7ff', '\u{10000}', '\u{1f600}', '\u{10ffff}', '\ue000', '\uffff')
const text = fc.string({ unit })

test('bytes of keys are ordered as the code units of the keys are', () => {
  fc.assert(
    fc.property(text, text, (a, b) => {
      expect(Math.sign(Buffer.compare(keyBytes(a), keyBytes(b)))).toBe(a < b ? -1 : a > b ? 1 : 0)
    }),
  )
})

test('keys come back from their bytes exactly, which are as many as in UTF-8', () => {
  fc.assert(
    fc.property(text, (key) => {
      expect(keyOfBytes(keyBytes(key))).toBe(key)
      expect(keyBytes(key).length).toBe(Buffer.byteLength(key))
    }),
  )
  expect(keyBytes('free/日本/é/\u{1f600}')).toEqual(Buffer.from('free/日本/é/\u{1f600}'))
})

test('a range holds exactly the keys with a prefix that come after a key', () => {
  fc.assert(
    fc.property(text, text, fc.option(text, { nil: undefined }), (key, prefix, after) => {
      const { from, before } = listRange(prefix, after)
      const within = Buffer.compare(keyBytes(key), from) >= 0 && Buffer.compare(keyBytes(key), before) < 0
      expect(within).toBe(key.startsWith(prefix) && (after === undefined || after === '' || key > after))
    }),
  )
})

test('half of a surrogate pair, which no key has, is refused in a range', () => {
  for (const half of ['\ud83d', 'k/\udc00']) {
    expect(() => listRange(half)).toThrow(TypeError)
    expect(() => listRange('k/', half)).toThrow(TypeError)
  }
})
