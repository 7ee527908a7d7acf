// Errors are known by their brand, also across two copies of the package, and by nothing else. `findRefusal` is
// tested with the frameworks that wrap errors; here it only meets bodies that no kernel wrote.

import { describe, expect, test } from 'vitest'
import type * as Errors from '../../src/lib/errors.ts'
import { HoldfastError, Refusal, findRefusal, refusalToBody, type RefusalCode } from '../../src/lib/errors.ts'

/** The same file as another module: what a second copy of the package in node_modules is. */
async function secondCopy(): Promise<typeof Errors> {
  const file = '../../src/lib/errors.ts'
  return (await import(`${file}?copy=2`)) as typeof Errors
}

const CODES: readonly RefusalCode[] = [
  'ERR_BUDGET_EXCEEDED',
  'ERR_BUDGET_BUSY',
  'ERR_BUDGET_FROZEN',
  'ERR_UNKNOWN_BUDGET',
  'ERR_UNKNOWN_PRICE',
  'ERR_UNMETERED',
  'ERR_NO_SCOPE',
  'ERR_PERMISSION_DENIED',
  'ERR_APPROVAL_REQUIRED',
]

describe('two copies of the package', () => {
  test('have classes of their own, and know each other’s errors all the same', async () => {
    const copy = await secondCopy()
    expect(copy.HoldfastError).not.toBe(HoldfastError)
    for (const [one, other] of [
      [copy, { HoldfastError, Refusal }],
      [{ HoldfastError, Refusal }, copy],
    ] as const) {
      const refusal = new one.Refusal('ERR_BUDGET_BUSY', 'busy')
      const failure = new one.HoldfastError('ERR_STORE', 'away')
      expect(refusal instanceof other.HoldfastError).toBe(false)
      expect([other.HoldfastError.isInstance(refusal), other.Refusal.isInstance(refusal)]).toEqual([true, true])
      expect([other.HoldfastError.isInstance(failure), other.Refusal.isInstance(failure)]).toEqual([true, false])
    }
  })

  test('find each other’s refusals, the very same object', async () => {
    const copy = await secondCopy()
    const refusal = new copy.Refusal('ERR_PERMISSION_DENIED', 'no')
    expect(findRefusal(new Error('wrapped', { cause: refusal }))).toBe(refusal)
    expect(copy.findRefusal(new Error('wrapped', { cause: new copy.HoldfastError('ERR_STORE', 'away') }))).toBeUndefined()
  })
})

describe('isInstance', () => {
  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a string', 'ERR_STORE'],
    ['an Error', new Error('x')],
    ['an object that looks like a refusal', { name: 'HoldfastError', code: 'ERR_STORE', message: 'x', toModelMessage: () => 'x' }],
    ['the class itself', HoldfastError],
    ['a copy by JSON', JSON.parse(JSON.stringify(new Refusal('ERR_NO_SCOPE', 'x')))],
    ['a copy by spreading', Object.assign({}, new Refusal('ERR_NO_SCOPE', 'x'))],
    ['an error with the brand under another value', Object.assign(new Error('x'), { [Symbol.for('holdfast.error')]: 'yes' })],
  ])('is false for %s', (_, value) => {
    expect([HoldfastError.isInstance(value), Refusal.isInstance(value)]).toEqual([false, false])
  })

  test('is true for subclasses and for heirs of an error', () => {
    class Special extends Refusal {}
    const special = new Special('ERR_NO_SCOPE', 'x')
    expect([HoldfastError.isInstance(special), Refusal.isInstance(special)]).toEqual([true, true])
    expect(Refusal.isInstance(Object.create(special))).toBe(true)
  })
})

describe('a holdfast error', () => {
  test('keeps code, message, cause and a stack, and does not list its brand', () => {
    const cause = new Error('why')
    const error = new HoldfastError('ERR_STORE', 'away', { cause })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'HoldfastError', code: 'ERR_STORE', message: 'away', cause })
    expect(error.stack).toContain('errors.test.ts')
    expect(Object.keys(error).sort()).toEqual(['code', 'name'])
  })

  test.each(CODES)('%s is a refusal with status 402 that LangChain does not retry', (code) => {
    const refusal = new Refusal(code, 'x')
    expect(refusal).toMatchObject({ code, status: 402, details: {} })
    expect(Reflect.get(refusal, Symbol.for('langchain.errors.retryable'))).toBe(false)
  })

  test.each(CODES)('%s crosses a provider SDK as a body and comes back the same', (code) => {
    const refusal = new Refusal(code, 'for the operator', { agent: 'a', wouldPass: 'b', modelMessage: 'c' })
    const back = findRefusal({ error: JSON.parse(JSON.stringify(refusalToBody(refusal))).error })
    expect(back).toMatchObject({ code, message: refusal.message, details: refusal.details })
    expect(back?.toModelMessage()).toBe('c')
  })
})

function body(fields: Record<string, unknown>): unknown {
  return { error: { type: 'holdfast_refusal', message: 'm', holdfast: {}, ...fields } }
}

describe('a body that no kernel wrote', () => {
  test.each(['toString', 'constructor', '__proto__', 'hasOwnProperty', 'ERR_STORE', '', 1, null, ['ERR_NO_SCOPE']])(
    'with the code %j is no refusal',
    (code) => {
      expect(findRefusal(body({ code }))).toBeUndefined()
      expect(findRefusal({ responseBody: JSON.stringify(body({ code })) })).toBeUndefined()
    },
  )

  test.each([null, undefined, 'text', 7, []])('with the details %j still has words for the model', (holdfast) => {
    const found = findRefusal(body({ code: 'ERR_NO_SCOPE', holdfast }))
    expect(found?.toModelMessage()).toBe('This work is not set up to run anything. Report this to the operator.')
  })
})
