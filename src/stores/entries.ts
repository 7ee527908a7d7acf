// Reading many keys from a store, which gives them page by page.

import { MAX_ENTRIES, type Entry, type Store } from './store.ts'

/**
 * Every entry whose key begins with `prefix`, in order of key; one page is kept at a time. What is written meanwhile
 * may or may not be among them.
 */
export async function* entriesOf(store: Store, prefix: string): AsyncGenerator<Entry, void> {
  for (let after: string | undefined; ;) {
    const page = await store.list(prefix, { limit: MAX_ENTRIES, ...(after === undefined ? {} : { after }) })
    yield* page
    if (page.length < MAX_ENTRIES) return
    after = page.at(-1)!.key
  }
}

/** All entries whose key begins with `prefix`, in order of key. */
export async function listAll(store: Store, prefix: string): Promise<readonly Entry[]> {
  const entries: Entry[] = []
  for await (const entry of entriesOf(store, prefix)) entries.push(entry)
  return entries
}
