// One process of a benchmark of several: says that it is ready, waits for the word, works, answers with its rate.

import { commits, rawAppends } from './store.ts'

const [work = '', folder = '', ms = '0'] = process.argv.slice(2)
process.send?.('ready')
process.once('message', () => {
  void measureAndAnswer()
})

async function measureAndAnswer(): Promise<void> {
  process.send?.(work === 'raw' ? await rawAppends(folder, Number(ms)) : await commits(folder, Number(ms), 4))
  process.disconnect()
}
