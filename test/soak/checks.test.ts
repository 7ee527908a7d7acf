// What the soak would see: each of its checks is shown something wrong, and something right.

import { describe, expect, test } from 'vitest'
import { faultOfRefusal, faultsAtTheEnd, look, noLooks, type Account } from '../../soak/checks.ts'
import type { Market } from '../../soak/market.ts'

const account = (of: Partial<Account> = {}): Account => ({
  budget: 'acme',
  dimension: 'usd',
  limit: 100,
  free: 40,
  spent: 30,
  suspense: 0,
  out: 30,
  kids: 0,
  assumed: 0,
  balanced: true,
  ...of,
})

const billed = (usd: number): Market => ({ truth: () => ({ 'usd/acme': usd }) }) as unknown as Market

async function faultsOf(market: Market, of: Account): Promise<readonly string[]> {
  const looks = noLooks()
  await look(market, async () => [of], looks)
  return [...looks.faults]
}

describe('a look of the soak', () => {
  test('sees a bill beyond what the ledger knows of, beyond the limit, a torn equation, and a frozen root', async () => {
    expect(await faultsOf(billed(60), account())).toEqual([])
    expect(await faultsOf(billed(61), account())).toEqual(['the bill is beyond what the ledger knows of: usd of acme'])
    expect(await faultsOf(billed(101), account())).toContain('the bill is beyond the limit: usd of acme')
    expect(await faultsOf(billed(0), account({ balanced: false }))).toHaveLength(1)
    expect(await faultsOf(billed(0), account({ frozen: 'by hand' }))).toEqual(['frozen (by hand): usd of acme'])
  })

  test('sees at the end what is still out or with children, and what was settled without a bill', () => {
    const truth = { 'usd/acme': 30 }
    expect(faultsAtTheEnd([account({ out: 0, free: 70 })], truth)).toEqual([])
    expect(faultsAtTheEnd([account()], truth)).toEqual(['30 usd of acme are still out'])
    expect(faultsAtTheEnd([account({ out: 0, kids: 2 })], truth)).toEqual(['2 usd of acme are still with its children'])
    expect(faultsAtTheEnd([account({ out: 0, spent: 35, assumed: 4 })], truth)).toEqual(['more usd of acme were settled than billed'])
  })
})

describe('a refusal `EXCEEDED`', () => {
  const facts = { budget: 'acme', dimension: 'usd', limit: 100, spent: 80, free: 10, out: 10, suspense: 0, needed: 21, sinceMs: 1_000 }

  test('is right when not even what others hold would do, under the limit of that time', () => {
    expect(faultOfRefusal(facts, [{ atMs: 500, limits: { 'usd/acme': 100 } }])).toBeUndefined()
    expect(faultOfRefusal(facts, [{ atMs: 1_500, limits: { 'usd/acme': 200 } }])).toBeUndefined()
  })

  test('is wrong when it could fit, when its facts cannot be, and when a raise was there before', () => {
    expect(faultOfRefusal({ ...facts, needed: 20 }, [])).toMatch('it could fit')
    expect(faultOfRefusal({ ...facts, spent: 81 }, [])).toMatch('cannot be')
    expect(faultOfRefusal(facts, [{ atMs: 900, limits: { 'usd/acme': 200 } }])).toMatch('200 by then')
  })
})
