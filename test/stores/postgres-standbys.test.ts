// Which settings of synchronous standbys a hard budget can stand on. The parser reads what the server reads: each form
// is put to a real one too.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { Pool } from 'pg'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { sleep } from '../../src/lib/clock.ts'
import { postgresStore } from '../../src/stores/postgres.ts'
import { capabilitiesOf, type Settings } from '../../src/stores/postgres/settings.ts'
import { parseStandbyNames, type StandbyNames } from '../../src/stores/postgres/standby-names.ts'
import { temporaryDirectory } from './journal.ts'
import { postgresBinaries, startPostgres, type PostgresServer } from './postgres-server.ts'
import { requireServer } from './servers.ts'

const FORMS: Readonly<Record<string, StandbyNames>> = {
  s1: { method: 'first', count: 1, names: ['s1'] },
  's1, s2': { method: 'first', count: 1, names: ['s1', 's2'] },
  '*': { method: 'first', count: 1, names: ['*'] },
  '2 (s1, s2, s3)': { method: 'first', count: 2, names: ['s1', 's2', 's3'] },
  'FIRST 2 (s1, s2, s3)': { method: 'first', count: 2, names: ['s1', 's2', 's3'] },
  'first 1(s1)': { method: 'first', count: 1, names: ['s1'] },
  'ANY 2 (s1, s2, s3)': { method: 'any', count: 2, names: ['s1', 's2', 's3'] },
  ' \t any \t3 ( * ) ': { method: 'any', count: 3, names: ['*'] },
  'Any 1 ("first", "any", "a ""b"", c", "*")': { method: 'any', count: 1, names: ['first', 'any', 'a "b", c', '*'] },
  '_a$1, é2': { method: 'first', count: 1, names: ['_a$1', 'é2'] },
  '1, 2': { method: 'first', count: 1, names: ['1', '2'] },
  '1': { method: 'first', count: 1, names: ['1'] },
  '2 (3, 4)': { method: 'first', count: 2, names: ['3', '4'] },
  's1, S1, "s1"': { method: 'first', count: 1, names: ['s1'] },
}
const BAD = [
  ',',
  's1,',
  ', s1',
  's1 s2',
  '()',
  '2 ()',
  '0 (s1)',
  'ANY 0 (s1)',
  'ANY (s1)',
  'FIRST',
  'ANY',
  'first, s1',
  's1, any',
  'ANY 2 s1, s2',
  'ANY 2 (s1, s2',
  'ANY 2 (s1, s2))',
  'ANY 2 (s1,, s2)',
  'ANY two (s1)',
  'ANY -1 (s1)',
  's-1',
  '"s1',
  's1; s2',
  '(s1)',
  '2 (s1), s2',
]

describe('synchronous_standby_names', () => {
  test.each(Object.entries(FORMS))('%j is understood', (setting, meant) => {
    expect(parseStandbyNames(setting)).toEqual(meant)
  })

  test.each(['', ' ', ...BAD])('%j is not', (setting) => {
    expect(parseStandbyNames(setting)).toBeUndefined()
  })
})

const SAFE = {
  version: '170000',
  version_text: '17.0',
  encoding: 'UTF8',
  database: 'd',
  address: 'a',
  standby: 'false',
  synchronous_commit: 'on',
  fsync: 'on',
  full_page_writes: 'on',
} as const

/** Whether standbys may take over that lack something; what they are said to be now, as `pg_stat_replication` has it. */
function isShort(names: string, ...standbys: readonly (string | null)[]): boolean {
  const senders = JSON.stringify(standbys.map((sync) => ({ state: sync === null ? null : 'streaming', sync })))
  const settings: Settings = { ...SAFE, synchronous_standby_names: names, senders }
  const { shortfalls = [] } = capabilitiesOf(settings)
  expect(shortfalls.map(({ setting }) => setting)).toEqual(shortfalls.length === 0 ? [] : ['synchronous_standby_names'])
  return shortfalls.length > 0
}

describe('a server with standbys', () => {
  test.each([
    ['', []],
    ['a', ['sync']],
    ['a', []],
    ['*', ['sync']],
    ['FIRST 2 (a, b)', ['sync', 'sync']],
    ['2 (a, b)', []],
    ['ANY 2 (a, b)', ['quorum', 'quorum']],
    ['ANY 1 (a)', ['quorum']],
    ['ANY 2 (*)', ['quorum', 'quorum']],
    ['FIRST 3 (a, b)', ['sync', 'sync']],
    ['a, A', ['sync']],
  ])('that waits for all of them, %j, lacks nothing', (names, standbys) => {
    expect(isShort(names, ...standbys)).toBe(false)
  })

  test.each([
    ['', ['async']],
    ['a, b', []],
    ['a, b', ['sync']],
    ['a', ['sync', 'potential']],
    ['FIRST 1 (a, b)', ['sync', 'potential']],
    ['2 (a, b, c)', ['sync', 'sync']],
    ['ANY 1 (a, b)', ['quorum', 'quorum']],
    ['ANY 1 (a, b)', []],
    ['ANY 1 (a, b)', [null]],
    ['ANY 2 (a, b, c)', ['quorum', 'quorum', 'quorum']],
    ['ANY 1 (*)', ['quorum', 'quorum']],
    ['ANY 1 (a)', ['quorum', 'quorum']],
    ['ANY 1 (a, *)', ['quorum']],
    ['ANY 2 (a, b)', ['quorum', 'quorum', 'async']],
    ['ANY 2 (a, b', []],
  ])('that waits for some of them, or for who knows whom, %j with %j, lacks that', (names, standbys) => {
    expect(isShort(names, ...standbys)).toBe(true)
  })
})

const available = requireServer('postgres', 'the Postgres store with standbys', postgresBinaries() !== undefined)

/** Connects something that takes the log and says what it has of it, as a standby does. */
async function receive(server: PostgresServer, name: string): Promise<void> {
  const target = `host=127.0.0.1 port=${server.port} user=postgres application_name=${name}`
  const receiver = spawn(join(postgresBinaries()!, 'pg_receivewal'), ['-D', temporaryDirectory(), '--synchronous', '-d', target], {
    stdio: 'ignore',
  })
  onTestFinished(() => void receiver.kill('SIGKILL'))
  const streaming = `SELECT FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '${name}'`
  while ((await server.query(streaming)).length === 0) await sleep(50)
}

describe.runIf(available)('a real server', () => {
  test('takes the forms that are understood, and no other', async () => {
    const server = await startPostgres()
    onTestFinished(() => server.stop())
    const isTaken = (setting: string): Promise<boolean> =>
      server.query(`ALTER SYSTEM SET synchronous_standby_names = '${setting}'`).then(
        () => true,
        () => false,
      )
    const found: Record<string, boolean> = {}
    for (const setting of [...Object.keys(FORMS), ...BAD]) found[setting] = await isTaken(setting)
    expect(found).toEqual(Object.fromEntries([...Object.keys(FORMS).map((form) => [form, true]), ...BAD.map((form) => [form, false])]))
  })

  test.each([
    ['ANY 1 (one, other)', ['quorum', 'quorum'], /^ERR_PROMISE .* is "ANY 1 /],
    ['ANY 2 (one, other)', ['quorum', 'quorum'], /^it opens$/],
    ['one, other', ['potential', 'sync'], /^ERR_PROMISE .* is "one, /],
    ['FIRST 2 (one, other)', ['sync', 'sync'], /^it opens$/],
  ])('with %j says of its standbys %j, and of a hard budget: %s', async (names, states, opens) => {
    const server = await startPostgres({ fsync: 'on' })
    onTestFinished(() => server.stop())
    for (const name of ['one', 'other']) await receive(server, name)
    await server.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
    await server.query('SELECT pg_reload_conf()')
    const asked = 'SELECT sync_state FROM pg_stat_replication ORDER BY 1'
    const said = async () => (await server.query(asked)).map((row) => row['sync_state'])
    await expect.poll(said, { timeout: 20_000 }).toEqual(states)
    const pool = new Pool({ connectionString: server.url })
    pool.on('error', () => {})
    onTestFinished(() => pool.end())
    const store = await postgresStore(pool, { migrate: true })
    onTestFinished(() => store.close())
    const opened = await openKernel({ store, budgets: { acme: { tokens: 10 } }, onEvent: () => {} }).then(
      async (kernel) => (await kernel.close(), 'it opens'),
      ({ code, message }: { code: string; message: string }) => `${code} ${message}`,
    )
    expect(opened).toMatch(opens)
  })
})
