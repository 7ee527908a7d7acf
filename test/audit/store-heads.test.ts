// Whoever opens a store looks whether it still has what it acknowledged to those before: each chain notes where the
// journal stood. A journal that lost its end is not opened; a chain file that is odd keeps nobody from opening.

import { appendFileSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { assertStoreIsWhole } from '../../src/audit/store-heads.ts'
import { fileStore } from '../../src/stores/file.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Store, StoreHead } from '../../src/stores/store.ts'
import { chainFile, linesOf, openAudited, recordsOf, temporaryDirectory, writeChain } from './chains.ts'

const MODEL = { kind: 'model', resource: 'gpt', worst: { calls: 1 } }

const journalOf = (directory: string): string => join(directory, 'store', 'g-000000000001')

/** A data directory in which a kernel worked and was closed. */
async function worked(actions = 3): Promise<{ directory: string; boot: string }> {
  const directory = temporaryDirectory()
  const { boot } = await use(directory, actions)
  return { directory, boot }
}

async function use(directory: string, actions: number): Promise<{ boot: string }> {
  const store = fileStore(directory, { durability: 'os' })
  try {
    const kernel = await openAudited({ store })
    const scope = kernel.scope({ agent: 'ann', task: 't', budget: 'acme' })
    for (let index = 0; index < actions; index++) await (await scope.begin(MODEL)).settle({ calls: 1 })
    await kernel.close()
    return { boot: kernel.boot }
  } finally {
    await store.close()
  }
}

/** The same on SQLite: what it was at the end. */
async function useSqlite(file: string): Promise<{ boot: string; version: number; id: string }> {
  const store = sqliteStore(file)
  try {
    const kernel = await openAudited({ store })
    await (await kernel.scope({ agent: 'ann', task: 't', budget: 'acme' }).begin(MODEL)).settle({ calls: 1 })
    await kernel.close()
    const { store: head } = recordsOf(linesOf(store.dataDirectory!, kernel.boot)).at(-1) as unknown as { store: StoreHead }
    return { boot: kernel.boot, version: head.bytes, id: store.id }
  } finally {
    await store.close()
  }
}

/** Takes lines from the end of the journal. */
function cutJournal(directory: string, lines: number): void {
  const kept = readFileSync(journalOf(directory), 'utf8')
    .split('\n')
    .slice(0, -1 - lines)
  writeFileSync(journalOf(directory), kept.map((line) => `${line}\n`).join(''))
}

describe('a store', () => {
  test('that has all that it acknowledged is opened, again and again', async () => {
    const { directory } = await worked()
    for (let times = 0; times < 3; times++) await use(directory, 1)
    expect(readFileSync(journalOf(directory), 'utf8')).not.toBe('')
  })

  test('is named with its last place by the last record of a closed chain', async () => {
    const { directory, boot } = await worked()
    const last = recordsOf(linesOf(directory, boot)).at(-1)
    expect(last).toMatchObject({ kind: 'head', store: { segment: 1, bytes: readFileSync(journalOf(directory)).length } })
  })

  test.each([1, 2, 5])('that lost its last lines (%i) is not opened, and the chain that knows is named', async (lost) => {
    const { directory, boot } = await worked()
    cutJournal(directory, lost)
    const message = expect.stringMatching(`has lost writes that it acknowledged: the chain ${boot}\\.jsonl notes a line that ends at byte`)
    await expect(use(directory, 1)).rejects.toMatchObject({ code: 'ERR_DAMAGE', message })
  })

  test('that was deleted and comes back empty is not opened', async () => {
    const { directory } = await worked()
    rmSync(join(directory, 'store'), { recursive: true })
    await expect(use(directory, 1)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })

  test('that has all is opened although an older chain notes an older place', async () => {
    const { directory } = await worked()
    await use(directory, 20)
    await expect(use(directory, 1)).resolves.toMatchObject({ boot: expect.any(String) })
  })

  test.each(['an older copy', 'another store'])(
    'that counts versions and is not what it was (%s) is not opened, and the version is named',
    async (how) => {
      const file = join(temporaryDirectory(), 'state.db')
      const { boot } = await useSqlite(file)
      for (const part of ['', '-wal', '-shm']) if (existsSync(file + part)) copyFileSync(file + part, `${file}.old${part}`)
      const later = await useSqlite(file)
      expect(later.version).toBeGreaterThan(0)
      for (const part of ['', '-wal', '-shm']) {
        rmSync(file + part, { force: true })
        if (how === 'an older copy' && existsSync(`${file}.old${part}`)) renameSync(`${file}.old${part}`, file + part)
      }
      const what = how === 'an older copy' ? `version ${later.version}` : `version ${later.version} of the store ${later.id}`
      const message = expect.stringMatching(
        new RegExp(`the chain (${boot}|${later.boot})\\.jsonl notes ${what}, and it is not there\\. Nothing is opened\\.$`),
      )
      await expect(useSqlite(file)).rejects.toMatchObject({ code: 'ERR_DAMAGE', message })
    },
  )

  test('that notes no places has no such question', async () => {
    const { directory } = await worked()
    await expect(assertStoreIsWhole(directory, memoryStore())).resolves.toBeUndefined()
  })

  test('of another place is none of this chain’s business', async () => {
    const { directory } = await worked()
    const elsewhere = fileStore(temporaryDirectory(), { durability: 'os' })
    await expect(assertStoreIsWhole(directory, elsewhere)).resolves.toBeUndefined()
    await elsewhere.close()
  })
})

describe('a chain file that is odd', () => {
  const odd: Readonly<Record<string, (directory: string) => void>> = {
    'is empty': (directory) => writeChain(directory, 'odd', []),
    'is no JSON': (directory) => writeChain(directory, 'odd', ['hello', '"store":{']),
    'has half of a surrogate pair': (directory) => writeChain(directory, 'odd', ['{"h":"x","v":1,"a":"\\ud800","store":{}}']),
    'has a thousand levels': (directory) =>
      writeChain(directory, 'odd', [`{"h":"x","v":1,"store":{"a":${'['.repeat(1e3)}${']'.repeat(1e3)}}}`]),
    'has one line of a million characters': (directory) => writeChain(directory, 'odd', ['"store":{'.repeat(111_112)]),
    'has no newline': (directory) => {
      writeChain(directory, 'odd', [])
      appendFileSync(chainFile(directory, 'odd'), 'x'.repeat(100_000))
    },
    'is a folder': (directory) => mkdirSync(chainFile(directory, 'odd')),
    'is a link to nowhere': (directory) => symlinkSync(join(directory, 'nowhere'), chainFile(directory, 'odd')),
  }

  test.each(Object.entries(odd))('(it %s) does not keep a kernel from opening, nor hides that the store lost writes', async (_, make) => {
    const { directory } = await worked()
    make(directory)
    await use(directory, 1)
    cutJournal(directory, 1)
    await expect(use(directory, 1)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })

  test('because its last note was edited is passed over, and the note before it is the last one that holds', async () => {
    const { directory, boot } = await worked()
    const lines = linesOf(directory, boot)
    writeChain(directory, boot, lines.with(lines.length - 1, lines.at(-1)!.replace(/"bytes":\d/, '"bytes":9')))
    await use(directory, 1)
    cutJournal(directory, 100)
    await expect(use(directory, 1)).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  })
})

test('all chains are asked about in one question', async () => {
  const { directory } = await worked()
  for (let more = 0; more < 4; more++) await use(directory, 1)
  const real = fileStore(directory, { durability: 'os' })
  const asked: number[] = []
  const counting: Store = { ...real, holds: async (heads) => (asked.push(heads.length), real.holds!(heads)) }
  await assertStoreIsWhole(directory, counting)
  expect(asked).toEqual([5])
  await real.close()
})

test('a store that cannot say is believed', async () => {
  const { directory } = await worked()
  const real = fileStore(directory, { durability: 'os' })
  const saying = (answer: 'no' | 'unknown'): Store => ({ ...real, holds: async (heads) => heads.map(() => answer) })
  await expect(assertStoreIsWhole(directory, saying('unknown'))).resolves.toBeUndefined()
  await expect(assertStoreIsWhole(directory, saying('no'))).rejects.toMatchObject({ code: 'ERR_DAMAGE' })
  await real.close()
})
