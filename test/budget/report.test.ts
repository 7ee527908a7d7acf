// Reports of a store that has more than one page of what they are made of.

import { expect, test } from 'vitest'
import { line, open, take } from './bench.ts'
import { memoryStore } from '../../src/stores/memory.ts'

test('a living observer shows in a report behind more marks of dead ones than one page has', async () => {
  const store = memoryStore()
  for (let page = 0; page < 21; page++) {
    // `!` comes before all that the id of a process can begin with.
    const set = Array.from({ length: 500 }, (_, index) => ({ key: `observed/!dead${page}/acme/r${index}`, value: 1 }))
    await store.apply([{ set }])
  }
  const { kernel } = await open({ store, mode: 'observe', budgets: { acme: { tokens: 5 }, other: { tokens: 5 } } })
  await (await take(kernel, 'acme', { tokens: 1 })).settle({ tokens: 1 })
  expect(await line(store, 'acme')).toMatchObject({ enforced: false })
  expect(await line(store, 'other')).toMatchObject({ enforced: true })
})
