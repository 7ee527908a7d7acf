// Canonical JSON against the vectors of RFC 8785, as bytes: the number samples of its appendix B, the samples of
// section 3.2, and the files that the RFC was developed with. Then against any JSON value, beside a slow writer
// that follows the text of the RFC word by word.

import { isDeepStrictEqual } from 'node:util'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { assertJson, canonicalJson, type Json } from '../../src/lib/canonical-json.ts'

type Vector = readonly [what: string, input: string, outputHex: string]

const VECTORS: readonly Vector[] = [
  [
    'the sample of section 3.2',
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    '7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e3333333333' +
      '33332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c' +
      '5c5c222f227d',
  ],
  [
    'the sorting sample of section 3.2.3',
    '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}',
    '7b225c72223a2243617272696167652052657475726e222c2231223a224f6e65222c22c280223a22436f6e74726f6c222c22c3b6223a224c' +
      '6174696e20536d616c6c204c6574746572204f205769746820446961657265736973222c22e282ac223a224575726f205369676e222c22f0' +
      '9f9880223a22456d6f6a693a204772696e6e696e672046616365222c22efacb3223a22486562726577204c65747465722044616c65742057' +
      '69746820446167657368227d',
  ],
  ['arrays', '[ 56, { "d": true, "10": null, "1": [ ] } ]', '5b35362c7b2231223a5b5d2c223130223a6e756c6c2c2264223a747275657d5d'],
  [
    'structures',
    '{"1": {"f": {"f": "hi","F": 5} ,"\\n": 56.0},"10": { },"": "empty","a": { },"111": [ {"e": "yes","E": "no" } ],"A": { }}',
    '7b22223a22656d707479222c2231223a7b225c6e223a35362c2266223a7b2246223a352c2266223a226869227d7d2c223130223a7b7d2c22' +
      '313131223a5b7b2245223a226e6f222c2265223a22796573227d5d2c2241223a7b7d2c2261223a7b7d7d',
  ],
  [
    'unicode, which is not normalised',
    '{"Unnormalized Unicode":"A\\u030a"}',
    '7b22556e6e6f726d616c697a656420556e69636f6465223a2241cc8a227d',
  ],
  [
    'values',
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"escaping":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    '7b226573636170696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f222c226c69746572616c73223a5b6e756c6c2c' +
      '747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e333333333333332c31652b33302c342e352c302e303032' +
      '2c31652d32375d7d',
  ],
  [
    'weird',
    '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\u000a":"Newline","1":"One","\\u0080":"Control\\u007f","\\ud83d\\ude02":"Smiley","\\u00f6":"Latin Small Letter O With Diaeresis","\\ufb33":"Hebrew Letter Dalet With Dagesh","</script>":"Browser Challenge"}',
    '7b225c6e223a224e65776c696e65222c225c72223a2243617272696167652052657475726e222c2231223a224f6e65222c223c2f73637269' +
      '70743e223a2242726f77736572204368616c6c656e6765222c22c280223a22436f6e74726f6c7f222c22c3b6223a224c6174696e20536d61' +
      '6c6c204c6574746572204f205769746820446961657265736973222c22e282ac223a224575726f205369676e222c22f09f9882223a22536d' +
      '696c6579222c22efacb3223a22486562726577204c65747465722044616c6574205769746820446167657368227d',
  ],
  [
    'french, in no locale’s order',
    '{"peach":"This sorting order","péché":"is wrong according to French","pêche":"but canonicalization MUST","sin":"ignore locale"}',
    '7b227065616368223a225468697320736f7274696e67206f72646572222c2270c3a96368c3a9223a2269732077726f6e67206163636f7264' +
      '696e6720746f204672656e6368222c2270c3aa636865223a226275742063616e6f6e6963616c697a6174696f6e204d555354222c2273696e' +
      '223a2269676e6f7265206c6f63616c65227d',
  ],
]

/** Appendix B: the bits of a double, and its text. */
const NUMBERS: readonly (readonly [bits: string, text: string])[] = [
  ['0000000000000000', '0'],
  ['8000000000000000', '0'],
  ['0000000000000001', '5e-324'],
  ['8000000000000001', '-5e-324'],
  ['7fefffffffffffff', '1.7976931348623157e+308'],
  ['ffefffffffffffff', '-1.7976931348623157e+308'],
  ['4340000000000000', '9007199254740992'],
  ['c340000000000000', '-9007199254740992'],
  ['4430000000000000', '295147905179352830000'],
  ['44b52d02c7e14af5', '9.999999999999997e+22'],
  ['44b52d02c7e14af6', '1e+23'],
  ['44b52d02c7e14af7', '1.0000000000000001e+23'],
  ['444b1ae4d6e2ef4e', '999999999999999700000'],
  ['444b1ae4d6e2ef4f', '999999999999999900000'],
  ['444b1ae4d6e2ef50', '1e+21'],
  ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
  ['3eb0c6f7a0b5ed8d', '0.000001'],
  ['41b3de4355555553', '333333333.3333332'],
  ['41b3de4355555554', '333333333.33333325'],
  ['41b3de4355555555', '333333333.3333333'],
  ['41b3de4355555556', '333333333.3333334'],
  ['41b3de4355555557', '333333333.33333343'],
  ['becbf647612f3696', '-0.0000033333333333333333'],
  ['43143ff3c1cb0959', '1424953923781206.2'],
  // Not in the table: the largest subnormal, the smallest normal, and the two edges of plain notation.
  ['000fffffffffffff', '2.225073858507201e-308'],
  ['0010000000000000', '2.2250738585072014e-308'],
  ['3e7ad7f29abcaf48', '1e-7'],
  ['433fffffffffffff', '9007199254740991'],
]

function doubleOf(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE()
}

describe('the vectors of RFC 8785', () => {
  test.each(VECTORS)('%s: the bytes are those of the RFC', (_, input, outputHex) => {
    expect(Buffer.from(canonicalJson(JSON.parse(input))).toString('hex')).toBe(outputHex)
  })

  test.each(VECTORS)('%s: the output is its own canonical form', (_, __, outputHex) => {
    const text = Buffer.from(outputHex, 'hex').toString()
    expect(canonicalJson(JSON.parse(text))).toBe(text)
  })

  test.each(NUMBERS)('appendix B: the double %s is written %s', (bits, text) => {
    expect(canonicalJson(doubleOf(bits))).toBe(text)
    expect(canonicalJson({ a: [doubleOf(bits)] })).toBe(`{"a":[${text}]}`)
  })

  test.each(['7fffffffffffffff', '7ff8000000000000', 'fff8000000000000', '7ff0000000000000', 'fff0000000000000'])(
    'appendix B: the double %s is refused',
    (bits) => {
      expect(() => canonicalJson({ a: [doubleOf(bits)] })).toThrow(/(?:NaN|Infinity) at \$\.a\[0\]/)
    },
  )

  test('section 3.2.2.2: the seven short escapes, \\u00xx for other controls, and nothing else is escaped', () => {
    expect(canonicalJson('\b\t\n\f\r"\\')).toBe('"\\b\\t\\n\\f\\r\\"\\\\"')
    for (let code = 0; code < 0x20; code++) {
      const short = { 8: '\\b', 9: '\\t', 10: '\\n', 12: '\\f', 13: '\\r' }[code]
      expect(canonicalJson(String.fromCharCode(code))).toBe(`"${short ?? `\\u00${code.toString(16).padStart(2, '0')}`}"`)
    }
    const plain = ' /\u007f\u0080\u00ad\u2028\u2029\ufeff\ufffd\uffff\u{10ffff}</script>'
    expect(canonicalJson(plain)).toBe(`"${plain}"`)
  })
})

/** The RFC word by word: members sorted by their UTF-16 code units, compared one by one. */
function slowCanonical(value: Json): string {
  if (typeof value === 'string') return slowString(value)
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '0' : String(value)
  if (Array.isArray(value)) return `[${value.map(slowCanonical).join(',')}]`
  const members = Object.entries(value as { readonly [key: string]: Json }).sort(([a], [b]) => compareUnits(a, b))
  return `{${members.map(([key, member]) => `${slowString(key)}:${slowCanonical(member)}`).join(',')}}`
}

function compareUnits(a: string, b: string): number {
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    if (a.charCodeAt(index) !== b.charCodeAt(index)) return a.charCodeAt(index) - b.charCodeAt(index)
  }
  return a.length - b.length
}

const ESCAPES = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\f', '\\f'],
  ['\r', '\\r'],
])

function slowString(text: string): string {
  const units = text.split('').map((unit) => {
    return ESCAPES.get(unit) ?? (unit < ' ' ? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}` : unit)
  })
  return `"${units.join('')}"`
}

/** Any JSON value, with keys that collide, look like array indexes, or mean something to JavaScript. */
const anyJson = fc.letrec<{ json: Json }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    fc.oneof(fc.constant(null), fc.boolean(), fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }), anyString()),
    fc.array(tie('json'), { maxLength: 5 }),
    fc
      .uniqueArray(fc.tuple(anyKey(), tie('json')), { maxLength: 6, selector: ([key]) => key })
      .map((members) => Object.fromEntries(members)),
  ),
})).json

function anyString(): fc.Arbitrary<string> {
  return fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom('\0', '"', '\\', '\u2028', '\u{1f600}') }))
}

function anyKey(): fc.Arbitrary<string> {
  const odd = ['', '0', '1', '10', '-1', '__proto__', 'constructor', 'toJSON', 'length', '\u{1f600}', '\ufb33', '\u20ac', '\r']
  // No backslash: once V8 has seen it in a key, it may read another escaped key as that one (nodejs/node#63785).
  return fc.oneof(fc.constantFrom(...odd), anyString()).filter((key) => !key.includes('\\'))
}

/** The same value with the members of every object in another order. */
function reversed(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(reversed)
  const members = Object.entries(value as { readonly [key: string]: Json }).toReversed()
  return Object.fromEntries(members.map(([key, member]) => [key, reversed(member)]))
}

describe('any JSON value', () => {
  const RUNS = { numRuns: 2_000 }

  test('is written as the slow writer writes it', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        expect(canonicalJson(value)).toBe(slowCanonical(value))
      }),
      RUNS,
    )
  })

  test('reads back as the same value, and its text is written the same again', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        const text = canonicalJson(value)
        // JSON.stringify also reads -0 as 0.
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
        expect(canonicalJson(JSON.parse(text))).toBe(text)
      }),
      RUNS,
    )
  })

  test('has one text, whatever the order of its members', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        expect(canonicalJson(reversed(value))).toBe(canonicalJson(value))
      }),
      RUNS,
    )
  })

  test('has the same text as another one exactly when both are the same value', () => {
    const small = fc.json({ maxDepth: 2, stringUnit: fc.constantFrom('a', 'b') }).map((text) => JSON.parse(text) as Json)
    const pairs = fc.oneof(
      fc.tuple(anyJson, anyJson),
      fc.tuple(small, small),
      anyJson.map((value) => [value, reversed(value)] as const),
    )
    fc.assert(
      fc.property(pairs, ([one, other]) => {
        const same = isDeepStrictEqual(JSON.parse(JSON.stringify(one)), JSON.parse(JSON.stringify(other)))
        expect(canonicalJson(one) === canonicalJson(other)).toBe(same)
      }),
      RUNS,
    )
  })

  test('is the same text for assertJson, which refuses only -0', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        expect(storable(value)).toEqual(holdsMinusZero(value) ? '-0 is refused' : canonicalJson(value))
      }),
      RUNS,
    )
  })
})

function storable(value: Json): string {
  try {
    return assertJson('field', value)
  } catch (error) {
    return /^`field` is not JSON: -0 at .* would be read back as 0; write 0\.$/s.test((error as Error).message)
      ? '-0 is refused'
      : String(error)
  }
}

function holdsMinusZero(value: Json): boolean {
  if (typeof value !== 'object' || value === null) return Object.is(value, -0)
  return Object.values(value).some(holdsMinusZero)
}
