// Identifiers never repeat and fit into file names and keys; hashes are SHA-256, the known vectors included.

import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { newId, sha256 } from '../../src/lib/ids.ts'
import { assertName } from '../../src/lib/names.ts'

test('ids are 22 characters of base64url, names by the rule for names, and never the same twice', () => {
  const ids = Array.from({ length: 10_000 }, newId)
  expect(new Set(ids).size).toBe(ids.length)
  expect(ids.filter((id) => !/^[\w-]{22}$/.test(id))).toEqual([])
  expect(() => ids.forEach((id) => assertName('id', id))).not.toThrow()
})

test('every bit of an id is random', () => {
  const ids = Array.from({ length: 2_000 }, () => Buffer.from(newId(), 'base64url'))
  const ones = Array.from({ length: 128 }, (_, bit) => ids.filter((id) => (id[bit >> 3]! >> (bit & 7)) & 1).length)
  // A fair bit is one of 600 to 1,400 times but for one run in 10^70.
  expect(ones.filter((count) => count < 600 || count > 1_400)).toEqual([])
})

test.each([
  ['', '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU'],
  ['abc', 'ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0'],
])('sha256 of %j is the vector of FIPS 180', (text, hash) => {
  expect(sha256(text)).toBe(hash)
  expect(sha256(Buffer.from(text))).toBe(hash)
})

test('sha256 of text is that of its UTF-8', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(sha256(text)).toBe(createHash('sha256').update(Buffer.from(text, 'utf8')).digest('base64url'))
    }),
  )
})
