// One process of a benchmark of several: warms up on a folder of its own, says that it is ready, waits for the
// word, works, answers with its rate. Eight cold compilers on two cores would be all that is measured otherwise.

import { join } from 'node:path'
import { commits, rawAppends } from './store.ts'

const [work = '', folder = '', ms = '0'] = process.argv.slice(2)
const run = (where: string): Promise<number> => (work === 'raw' ? rawAppends(where, Number(ms)) : commits(where, Number(ms), 4))

process.once('message', () => {
  void measureAndAnswer()
})
await run(join(folder, `warm-${process.pid}`))
process.send?.('ready')

async function measureAndAnswer(): Promise<void> {
  process.send?.(await run(folder))
  process.disconnect()
}
