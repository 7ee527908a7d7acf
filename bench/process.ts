// One process of a benchmark of several: says that it is ready, waits for the word, works, answers with its rate.

import { commits, rawAppends } from './store.ts'

const [work = '', folder = '', ms = '0'] = process.argv.slice(2)
process.send?.('ready')
process.once('message', () => {
  void (work === 'raw' ? rawAppends(folder, Number(ms)) : commits(folder, Number(ms), 4)).then((perSecond) => {
    process.send?.(perSecond)
    process.disconnect()
  })
})
