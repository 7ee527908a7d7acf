// A prefix of a path or URL: what stays below it passes, what certainly begins otherwise does not, and what could lead
// elsewhere than it says (by dots, by escapes, by look-alikes) passes nowhere and is stopped everywhere.

import { posix, win32 } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { meets } from '../../src/guardian/constraints.ts'
import { judged } from './guard.ts'

const MEETS = 'both'
const MISSES = 'neither'
const UNCLEAR = 'is stopped'

/** Ways out of `/data/`, or back into it, that a path may take on some system or after some decoding. */
const CLIMBS: Readonly<Record<string, readonly string[]>> = {
  'dots between slashes': ['..', '.', '../etc/passwd', 'x/..', 'x/../..', './x', 'x/./y', 'x/.', 'a/b/c/../../../../etc'],
  'dots and spaces, which some systems drop': ['...', 'x/.../y', '. .', '.. ', ' ..', '..\u00a0', '. . /x'],
  backslashes: ['..\\etc', 'x\\..\\..\\etc', '..\\', 'x/..\\y', '.\\x'],
  'escaped dots': ['%2e%2e/etc', '%2E%2E/etc', '.%2e/etc', '%2e./etc', 'x/%2e'],
  'escaped separators': ['%2e%2e%2f', '..%2fetc', 'x%2f..%2fy', '..%5cetc', '%5c..%5c', 'x%2fy', 'x%5Cy'],
  'escapes of escapes': ['%252e%252e/etc', '%252e%252e%252fetc', '%25252e%25252e/', 'x%25y', '%25'],
  'escapes that are no UTF-8': ['%c0%ae%c0%ae/etc', '%c0%af', '%e0%80%ae/', '%f0%80%80%ae/', '%ff', 'x%80'],
  'escapes that are no escapes': ['%u002e%u002e/etc', '%uff0e%uff0e/', 'x%u2215y'],
  'compatible characters': ['\uff0e\uff0e/etc', '\uff0e\uff0e\uff0fetc', '\u2024\u2024/etc', '\u2025/etc', '\u2026', '..\uff3cetc'],
  'compatible characters in escapes': ['\uff052e\uff052e/etc', '%ef%bc%8e%ef%bc%8e/etc', '%e2%80%a5/etc', '%ef%bc%8f'],
  'invisible characters': ['.\u200b./etc', '\u200d../etc', '.\u00ad.', '..\ufeff/x', '.\u2060.', '\u202e../x'],
  'control characters': ['x\0', '\0../etc', 'x\n../etc', 'x\r', 'x\t', '\u007f', '\u0085'],
  'escaped control characters': ['x%00.png', 'x%0a', 'x%0d%0aHost: evil', '%1f', '%7f'],
  'what ends the path of a URL': ['..?x', '..#x', '.?x', 'x/..#', 'x?..', '..;x/etc', 'x/..;/..;/etc'],
  'what ends a name on other systems': ['..:stream', '..::$INDEX_ALLOCATION/x', 'C:..'],
}

/** Names that only look odd. */
const STAYS: Readonly<Record<string, readonly string[]>> = {
  'plain ones': ['', 'x', 'x/', 'x/y/z.txt', '/', '//x', 'a//b', 'data/', 'C', '~', '~root', 'report 7.txt', ' x'],
  'dots in names': ['.hidden', '..hidden', 'hidden..', 'x...', 'a..b', '...x', 'x/..y', 'v1.2.3', '..-', '.,'],
  'escapes in names': ['x%20y', '%41', '%c3%a9', '50%', '100% sure', '%zz', '%e2%82%ac', 'a%3fb', '%', '%2'],
  'other scripts': ['\u00e9', 'e\u0301', '\u{1f916}', '\uff41', '\u05d0', '\u0645', '\u7814', '\ud800'],
  'queries and the like': ['x?q=a.b', 'x#frag', 'x;v=1', 'x&y=..z', 'q=..', 'x?a=1&b=2.0'],
  'what only a shell would read': ['-rf', '$HOME', '*', '{a,b}', '`id`'],
}

const each = (table: Readonly<Record<string, readonly string[]>>) =>
  Object.entries(table).flatMap(([what, values]) => values.map((value) => [what, value] as const))

describe('a prefix', () => {
  test.each(each(STAYS))('lets %s pass: /data/%j', async (_, rest) => {
    expect(await judged({ prefix: '/data/' }, `/data/${rest}`)).toBe(MEETS)
  })

  test.each(each(CLIMBS))('cannot say where %s lead: /data/%j', async (_, rest) => {
    expect(await judged({ prefix: '/data/' }, `/data/${rest}`)).toBe(UNCLEAR)
    expect(await judged({ prefix: '/data/' }, `/data/x/${rest}`)).toBe(UNCLEAR)
    expect(await judged({ prefix: 'https://example.com/data/' }, `https://example.com/data/${rest}`)).toBe(UNCLEAR)
    // The same path may just as well lead into a prefix that it does not begin with.
    expect(await judged({ prefix: '/other/' }, `/data/${rest}`)).toBe(UNCLEAR)
  })

  test.each(['/database', '/data', '/dat', 'data/x', '/x/data/y', 'x/data/', '//data/x', '', ' /data/x', '/data\\x', 'file:///data/x'])(
    'is not met by %j, which begins otherwise',
    async (value) => {
      expect(await judged({ prefix: '/data/' }, value)).toBe(MISSES)
    },
  )

  test.each([1, true, ['/data/x'], ['/data/'], { path: '/data/x' }])('cannot judge %j, which is no string', async (value) => {
    expect(await judged({ prefix: '/data/' }, value)).toBe(UNCLEAR)
  })

  test.each([undefined, null])('is not met by %s', async (value) => {
    expect(await judged({ prefix: '/data/' }, value)).toBe(MISSES)
  })

  test('lets no URL pass that the URL parser takes out of it', () => {
    const prefix = 'https://example.com/data/'
    const parts = ['.', '..', '%2e', '%2E', '/', '\\', '%2f', '%5c', 'x', '?', '#', ';', '%', '%25', '@', ':', '\t', '\n', ' ', '\uff0e']
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...parts), { maxLength: 8 }), (rest) => {
        const value = prefix + rest.join('')
        fc.pre(meets(value, { prefix }) === 'yes')
        const { href, origin, pathname } = new URL(value)
        expect([origin, pathname.startsWith('/data/'), href.startsWith(prefix)]).toEqual(['https://example.com', true, true])
      }),
      { numRuns: 5_000 },
    )
  })

  test('lets no path pass that the file system would take out of it', () => {
    const parts = ['.', '..', '...', '/', '\\', 'x', ' ', '~', '%2e', '\0', ':', '\u2025']
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...parts), { maxLength: 8 }), (rest) => {
        const value = `/data/${rest.join('')}`
        fc.pre(meets(value, { prefix: '/data/' }) === 'yes')
        expect(`${posix.normalize(value)}/`).toMatch(/^\/data\//)
        expect(`${win32.normalize(value)}\\`).toMatch(/^\\data\\/)
      }),
      { numRuns: 5_000 },
    )
  })

  test.each(['.', ' ', './x', '%2', '%41', '%2e', '\u00e9', '/', '\u200b', '\uff0e'])('judges a path of a million times %j', (part) => {
    expect(meets(`/data/${part.repeat(1_000_000)}`, { prefix: '/data/' })).toMatch(/^(?:yes|unclear)$/)
  })
})

// What a prefix means is the business of who writes the rule: below a host, end at its slash; a command line has none.
describe('not closed: a prefix', () => {
  test.each([
    ['https://example.com:', 'https://example.com:443@evil.com/', 'the prefix was a user name, and the host is another one'],
    ['https://example.', 'https://example.evil.com/', 'the prefix was the beginning of another host’s name'],
    ['git ', 'git log; rm -rf ~', 'the shell runs a second command'],
  ])('that ends at %j lets %j pass: %s', async (prefix, value) => {
    expect(await judged({ prefix }, value)).toBe(MEETS)
  })

  test.each([
    ['in capitals, which some file systems take for the same', '/SECRET/x'],
    ['in look-alikes, which nothing takes for the same', '/s\u0435cret/x'],
    ['in compatible characters, which some servers normalise', '/\uff53ecret/x'],
    ['from the working directory', 'secret/x'],
    ['by another scheme', 'file:///secret/x'],
    ['by a second slash', '//secret/x'],
    ['by a link that leads there', '/tmp/link/x'],
  ])('that denies is not met by the same path %s', async (_, value) => {
    expect(await judged({ prefix: '/secret/' }, value)).toBe(MISSES)
    // The closed form: allow what is meant, and all of these are denied.
    expect(await judged({ prefix: '/public/' }, value)).toBe(MISSES)
  })
})
