// `holdfast bb list|get|history`: what stands on the blackboard, and who wrote it.

import type { Command } from 'commander'
import { entryKey, pastOf, toEntry, type BoardEntry, type BoardRecord, type PastWrite } from '../blackboard/entry.ts'
import { HoldfastError } from '../lib/errors.ts'
import type { Entry, Store } from '../stores/store.ts'
import { withWholeStore } from './open-store.ts'
import { reports, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { table } from './table.ts'
import { plural, timeOf, visible } from './text.ts'

/** What `holdfast bb list --json` prints. */
export interface BoardListJson {
  readonly entries: readonly (BoardEntry & { readonly namespace: string })[]
  /** True when there are more than were asked for. */
  readonly more: boolean
}

/** What `holdfast bb history --json` prints: newest first, the present write included. */
export interface BoardHistoryJson {
  readonly writes: readonly PastWrite[]
}

/** Most entries that one list shows. */
const MAX_LISTED = 1_000
/** Longest value in a table, in UTF-16 code units; `bb get` shows all of it. */
const MAX_SHOWN = 60

/** Adds the commands to `holdfast bb`. */
export function addBoard(parent: Command): void {
  const list = parent
    .command('list')
    .description('list the entries of a namespace, or of all')
    .argument('[namespace]', 'only this namespace')
    .argument('[prefix]', 'only keys that begin with this')
  reports(list, (place) =>
    boardList(place, list.processedArgs[0] as string | undefined, (list.processedArgs[1] as string | undefined) ?? ''),
  )
  const get = parent
    .command('get')
    .description('print what a key holds')
    .argument('<key>', 'the key, such as account:balance')
    .argument('[namespace]', 'where it lies', 'shared')
  reports(get, (place) => boardGet(place, get.processedArgs[0] as string, get.processedArgs[1] as string))
  const history = parent
    .command('history')
    .description('show who wrote a key, newest first')
    .argument('<key>', 'the key')
    .argument('[namespace]', 'where it lies', 'shared')
  reports(history, (place) => boardHistory(place, history.processedArgs[0] as string, history.processedArgs[1] as string))
}

async function boardList(place: Place, namespace: string | undefined, prefix: string): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const found = await store.list(namespace === undefined ? 'bb/' : `bb/${namespace}/${prefix}`, { limit: MAX_LISTED + 1 })
    const entries = found.slice(0, MAX_LISTED).map((entry) => {
      const [, space = '', ...key] = entry.key.split('/')
      return { namespace: space, ...(toEntry(key.join('/'), entry) as BoardEntry) }
    })
    const more = found.length > MAX_LISTED
    const header = [
      { title: 'namespace' },
      { title: 'key' },
      { title: 'value' },
      { title: 'version', align: 'right' as const },
      { title: 'by' },
      { title: 'task' },
      { title: 'at' },
    ]
    return {
      json: { entries, more } satisfies BoardListJson,
      text: (style) => {
        if (entries.length === 0)
          return 'Nothing stands on the blackboard there. Agents write to it: kernel.blackboard(scope).propose({ set })\n'
        const rows = entries.map(({ namespace: space, key, value, version, agent, task, atMs }) => [
          space,
          key,
          shortened(JSON.stringify(value)),
          String(version),
          agent,
          task,
          timeOf(atMs),
        ])
        return `${table(header, rows, style)}${more ? `\nThe first ${plural(MAX_LISTED, 'entry', 'entries')}; name a namespace and a prefix for the others.\n` : ''}`
      },
    }
  })
}

async function boardGet(place: Place, key: string, namespace: string): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const entry = toEntry(key, await find(store, key, namespace)) as BoardEntry
    return { json: { namespace, ...entry }, text: () => `${JSON.stringify(entry.value, null, 2).split('\n').map(visible).join('\n')}\n` }
  })
}

async function boardHistory(place: Place, key: string, namespace: string): Promise<Report> {
  return withWholeStore(place, async (store) => {
    const found = await find(store, key, namespace)
    const writes = pastOf(found.value as unknown as BoardRecord, found.version)
    const header = [
      { title: 'version', align: 'right' as const },
      { title: 'by' },
      { title: 'task' },
      { title: 'at' },
      { title: 'hash of the value' },
    ]
    return {
      json: { writes } satisfies BoardHistoryJson,
      text: (style) =>
        table(
          header,
          writes.map(({ version, agent, task, atMs, hash }) => [String(version), agent, task, timeOf(atMs), hash]),
          style,
        ),
    }
  })
}

async function find(store: Store, key: string, namespace: string): Promise<Entry> {
  const [found] = await store.read([entryKey(namespace, key)])
  if (found !== null && found !== undefined) return found
  throw new HoldfastError('ERR_STORE', `There is no key \`${key}\` in the namespace \`${namespace}\`. See all of them: holdfast bb list`)
}

const shortened = (text: string): string => (text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN - 1)}…`)
