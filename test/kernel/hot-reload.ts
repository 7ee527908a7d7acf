// Evaluates a module of an app three times, as a dev server does, the third time with another copy of the package, and
// says what came of it: `node hot-reload.ts <directory> shared|plain`.

import { readdirSync } from 'node:fs'
import type * as HotModule from './hot-module.ts'

const directory = process.argv[2]!
const evaluate = (query: string): Promise<typeof HotModule> => {
  const url = new URL('hot-module.ts', import.meta.url)
  url.search = query
  return import(url.href) as Promise<typeof HotModule>
}

const first = await evaluate('v=1')
const again = await evaluate('v=2')
const copy = await evaluate('v=3&copy=two')
const hold = await first.kernel
  .scope({ agent: 'a', task: 't', budget: 'acme' })
  .begin({ kind: 'tool', resource: 'x', worst: { tokens: 60 } })
const changed = await evaluate('v=4&tokens=200').then(
  () => 'opened',
  (error: unknown) => (error as { code?: string }).code,
)
console.log(
  JSON.stringify({
    isOne: first.kernel === again.kernel && first.kernel === copy.kernel,
    isAnotherCopy: first.shared !== copy.shared,
    chains: readdirSync(`${directory}/chains`).filter((name) => name.endsWith('.jsonl')).length,
    changed,
  }),
)
await hold.settle({ tokens: 1 })
await Promise.all([first.kernel, again.kernel, copy.kernel].map((kernel) => kernel.close()))
