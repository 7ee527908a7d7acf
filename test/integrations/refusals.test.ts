// findRefusal: whatever frameworks make of a refusal, it is found; and what is none, is not taken for one.

import { APICallError, RetryError } from 'ai'
import { OpenAIError } from 'openai'
import { describe, expect, test } from 'vitest'
import { Refusal, findRefusal, refusalToBody } from '../../src/lib/errors.ts'

const DETAILS = { resource: 'gpt-4o-mini', wouldPass: 'raise `usd` of `acme` to $2.00', endsRun: true } as const
const refusal = new Refusal('ERR_BUDGET_EXCEEDED', 'Budget `acme` has no room.', DETAILS)
const body = refusalToBody(refusal)
const text = JSON.stringify(body)

function apiCallError(responseBody: string): APICallError {
  return new APICallError({ message: 'Payment Required', url: 'http://host/v1', requestBodyValues: {}, statusCode: 402, responseBody })
}

function nested(levels: number, innermost: unknown): unknown {
  return Array.from({ length: levels }).reduce<unknown>((cause) => new Error('wrapped', { cause }), innermost)
}

describe('a refusal is found as itself', () => {
  test.each([
    ['itself', refusal],
    ['as a cause', new Error('wrapped', { cause: refusal })],
    ['as a cause of a cause', nested(5, refusal)],
    ['as the `error` of a ToolCallError of the Agents SDK', Object.assign(new Error('tool failed'), { error: refusal })],
    ['among the errors of an AggregateError', new AggregateError([new Error('a'), new Error('b', { cause: refusal })])],
    [
      'in a RetryError of the AI SDK',
      new RetryError({ message: 'failed twice', reason: 'errorNotRetryable', errors: [new Error('500'), refusal] }),
    ],
    ['as `lastError` alone', { lastError: refusal }],
    ['in an error of the OpenAI SDK', Object.assign(new OpenAIError('wrapped'), { cause: refusal })],
    ['in an error part of a stream', { type: 'error', error: refusal }],
  ])('%s', (_, error) => {
    expect(findRefusal(error)).toBe(refusal)
  })
})

describe('a refusal that crossed HTTP is rebuilt with its code, message and details', () => {
  test.each([
    ['from the body as an object', body],
    ['from the body as the `error` of something', { error: body }],
    ['from the inner object, as the OpenAI SDK keeps it', { status: 402, error: body.error }],
    ['from the text that the AI SDK keeps', apiCallError(text)],
    ['from that text in a RetryError', new RetryError({ message: 'x', reason: 'errorNotRetryable', errors: [apiCallError(text)] })],
    ['from a cause', new Error('wrapped', { cause: apiCallError(text) })],
  ])('%s', (_, error) => {
    const found = findRefusal(error)
    expect(Refusal.isInstance(found)).toBe(true)
    expect(found).toMatchObject({ code: refusal.code, message: refusal.message, status: 402, details: DETAILS })
    expect(found!.toModelMessage()).toBe(refusal.toModelMessage())
  })
})

describe('what is no refusal is not taken for one', () => {
  test.each([
    ['nothing', undefined],
    ['null', null],
    ['a text', 'ERR_BUDGET_EXCEEDED'],
    ['an ordinary error', new Error('Budget exceeded')],
    ['an error that borrows the code', Object.assign(new Error('x'), { code: 'ERR_BUDGET_EXCEEDED', status: 402 })],
    ['a 402 of a provider', apiCallError('{"error":{"message":"insufficient funds","type":"billing","code":"ERR_BUDGET_EXCEEDED"}}')],
    ['a text that only mentions us', apiCallError('<html>holdfast_refusal</html>')],
    ['a body with a code that does not exist', { error: { type: 'holdfast_refusal', code: 'ERR_SOMETHING', message: 'x' } }],
    ['a body with a code that every object has', { error: { type: 'holdfast_refusal', code: 'toString', message: 'x' } }],
    ['a body without a code', { error: { type: 'holdfast_refusal', message: 'x' } }],
    ['a body that is too long to be ours', apiCallError(`${' '.repeat(70_000)}${text}`)],
    ['a refusal under another name', { reason: refusal }],
  ])('%s', (_, error) => {
    expect(findRefusal(error)).toBeUndefined()
  })
})

describe('the search ends', () => {
  test('in a cycle', () => {
    const error = new Error('round') as Error & { errors?: unknown[] }
    error.cause = error
    error.errors = [error, { cause: error }]
    expect(findRefusal(error)).toBeUndefined()
    error.errors.push(refusal)
    expect(findRefusal(error)).toBe(refusal)
  })

  test('at 16 levels', () => {
    expect(findRefusal(nested(15, refusal))).toBe(refusal)
    expect(findRefusal(nested(16, refusal))).toBeUndefined()
  })

  test('after 100 errors of one aggregate', () => {
    const among = (before: number) => new AggregateError([...Array.from({ length: before }, () => new Error('x')), refusal])
    expect(findRefusal(among(99))).toBe(refusal)
    expect(findRefusal(among(100))).toBeUndefined()
  })

  test('soon, when every error names every other one', () => {
    const errors = Array.from({ length: 100 }, () => new AggregateError([]))
    for (const error of errors) Object.assign(error, { errors, cause: errors[0] })
    expect(findRefusal(errors[0])).toBeUndefined()
  })
})
