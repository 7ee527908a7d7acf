// A module of an app, as a dev server evaluates it again after each change: it opens what it needs at its top.

import { pathToFileURL } from 'node:url'
import { join } from 'node:path'
import type { openKernel as OpenKernel } from '../../src/kernel/open-kernel.ts'
import type { sharedKernel as SharedKernel } from '../../src/kernel/shared-kernel.ts'
import { fileStore } from '../../src/stores/file.ts'

const { searchParams } = new URL(import.meta.url)
const [directory, how] = process.argv.slice(2) as [string, 'shared' | 'plain']
const budgets = { acme: { tokens: Number(searchParams.get('tokens') ?? 100) } }
const onEvent = (): void => undefined

/** Another copy of the package: its modules are others, with state of their own. */
const load = async <T>(file: string): Promise<T> => {
  const url = pathToFileURL(join(import.meta.dirname, '../../src/kernel', file))
  url.search = searchParams.get('copy') ?? ''
  return (await import(url.href)) as T
}
const { sharedKernel } = await load<{ sharedKernel: typeof SharedKernel }>('shared-kernel.ts')
const { openKernel } = await load<{ openKernel: typeof OpenKernel }>('open-kernel.ts')

/** What the app exports. */
export const kernel: Awaited<ReturnType<typeof OpenKernel>> =
  how === 'shared'
    ? await sharedKernel('acme', { store: () => fileStore(directory, { durability: 'os' }), budgets, onEvent })
    : await openKernel({ store: fileStore(directory, { durability: 'os' }), budgets, onEvent })

/** To tell one copy from another. */
export const shared: typeof SharedKernel = sharedKernel
