// A process of its own that stops everything on a store, and lifts that when it is told to: `node stopper.ts <folder>`.

import { openKernel } from '../../src/kernel/open-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'

const directory = process.argv[2]!
process.once('disconnect', () => process.exit(1))
const store = fileStore(directory, { durability: 'os' })
const kernel = await openKernel({ store, onEvent: () => undefined })
const evidence = { by: 'ada', reason: 'odd calls' }
await kernel.stop({ everything: true, ...evidence })
await new Promise((resolve) => process.once('message', resolve))
await kernel.resume({ everything: true, ...evidence })
await kernel.close()
await store.close()
process.disconnect()
