// The table below the stores: what it keeps, for whom, and what it drops. Its results are shown by the suite.

import { expect, test } from 'vitest'
import { copyBatch, createTable, evaluate, type Cell } from '../../src/stores/table.ts'

function tableOf(cells: Readonly<Record<string, Cell>>) {
  const table = createTable()
  table.put(new Map(Object.entries(cells)))
  return table
}

test('pruning drops what has expired, and nothing else', () => {
  const table = tableOf({
    'k/old': { value: 1, version: 1, expiresAtMs: 10 },
    'k/young': { value: 2, version: 2, expiresAtMs: 11 },
    'k/kept': { value: 3, version: 3 },
  })
  expect(table.cell('k/old')).toBeDefined()
  table.prune(10)
  expect(['k/old', 'k/young', 'k/kept'].map((key) => table.cell(key)?.value)).toEqual([undefined, 2, 3])
  expect(table.list('k/', 0, { limit: 9 }).map(({ key }) => key)).toEqual(['k/kept', 'k/young'])
})

test('a batch is decided without touching the table', () => {
  const table = tableOf({ n: { value: 1, version: 1 } })
  const { result, changes } = evaluate((key) => table.cell(key), { add: [{ key: 'n', by: 1 }], delete: ['x'] }, 0, 2)
  expect(result).toEqual({ outcome: 'ok', version: 2, values: [2] })
  expect([...changes]).toEqual([
    ['n', { value: 2, version: 2 }],
    ['x', null],
  ])
  expect(table.cell('n')).toEqual({ value: 1, version: 1 })
  const refused = evaluate((key) => table.cell(key), { add: [{ key: 'n', by: 1, max: 1 }], delete: ['x'] }, 0, 2)
  expect([refused.result.outcome, refused.changes.size]).toEqual(['refused', 0])
})

test('what a table holds is frozen to its depth', () => {
  const table = tableOf({ a: { value: { list: [{ n: 1 }] }, version: 1 } })
  const [entry] = table.read(['a'], 0)
  const { list } = entry!.value as { list: { n: number }[] }
  expect(() => (list[0]!.n = 2)).toThrow(TypeError)
  expect(() => list.push({ n: 3 })).toThrow(TypeError)
})

test('a copy of a batch shares nothing with it that could be changed, and keeps every member', () => {
  const batch = {
    check: [{ key: 'a', version: 1 }],
    add: [{ key: 'b', by: 1, max: 2 }],
    set: [{ key: 'c', value: JSON.parse('{"__proto__":{"x":[1]},"list":[null,{"y":1}]}') as { list: unknown[] }, expiresAtMs: 5 }],
    delete: ['d'],
  }
  const text = JSON.stringify(batch)
  const copy = copyBatch(batch as Parameters<typeof copyBatch>[0])
  expect(JSON.stringify(copy)).toBe(text)
  batch.check[0]!.version = 9
  batch.add[0]!.by = 9
  batch.set[0]!.value.list.push(9)
  batch.delete.push('e')
  expect(JSON.stringify(copy)).toBe(text)
})
