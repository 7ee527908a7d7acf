// `--store`: the same commands on SQLite, Redis and Postgres, each a real one; and what is said where there is none.

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { dataBeside, parseStore, shownStore } from '../../src/cli/store-address.ts'
import type { BudgetStatusJson } from '../../src/cli/budget-status.ts'
import type { DoctorJson } from '../../src/cli/doctor.ts'
import type { StatusJson } from '../../src/cli/status.ts'
import { openKernel } from '../../src/kernel/open-kernel.ts'
import { postgresStore } from '../../src/stores/postgres.ts'
import { redisStore } from '../../src/stores/redis.ts'
import { sqliteStore } from '../../src/stores/sqlite.ts'
import type { Store } from '../../src/stores/store.ts'
import { postgresBinaries, startPostgres } from '../stores/postgres-server.ts'
import { DURABLE, startRedis } from '../stores/redis-server.ts'
import { requireServer } from '../stores/servers.ts'
import { cli, cliJson, declared, hold, newData, removeData } from './cli-bench.ts'

afterAll(removeData)

const WHY = ['--reason', 'ticket 4711', '--by', 'ada']

/** A folder of this test alone. */
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'holdfast-cli-store-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** The budgets of a store; asserts the equation for each. */
async function balancedAt(where: readonly string[]) {
  const { budgets, damage } = await cliJson<BudgetStatusJson>(['budget', 'status', ...where])
  expect(damage).toEqual([])
  expect(budgets.filter(({ balanced }) => !balanced)).toEqual([])
  return budgets
}

/** Everything that an operator does, on a store that a kernel spends from at the same time. */
async function operateOn(where: readonly string[], data: string, open: () => Promise<Store>): Promise<void> {
  const run = (...args: readonly string[]) => cli(['budget', ...args, ...where])
  expect(await run('init', '--task', 'acme', '--limit', '10')).toEqual({ code: 0, stdout: 'acme: $10.00, free $10.00\n', stderr: '' })
  const store = await open()
  const kernel = await openKernel({ store, data, promise: 'bounded', waitMs: 0, leasing: 'off', onEvent: () => undefined })
  const held = await hold(kernel, 'acme', { usd: 8_000_000_000 })
  expect((await run('check', '--task', 'acme', '--cost', '3')).code).toBe(1)
  expect(await run('set-limit', 'acme', 'usd=5', ...WHY)).toMatchObject({ code: 0, stderr: '' })
  expect(await balancedAt(where)).toMatchObject([{ limit: 8_000_000_000, pendingCut: 3_000_000_000 }])
  expect((await cliJson<StatusJson>(['status', ...where])).processes).toMatchObject([{ process: kernel.boot, state: 'alive', holds: 1 }])
  await held.charge('the stream was cut')
  expect(await run('correct', '--hold', held.id, 'usd=1', ...WHY)).toMatchObject({
    code: 0,
    stdout: 'acme: used $1.00; free again: $7.00\n',
  })
  expect(await run('recover')).toMatchObject({ code: 0, stderr: '' })
  expect(await balancedAt(where)).toMatchObject([{ limit: 5_000_000_000, free: 4_000_000_000, spent: 1_000_000_000, assumed: 0 }])
  expect(await run('freeze', 'acme', ...WHY)).toMatchObject({ code: 0 })
  await expect(hold(kernel, 'acme', { usd: 1 })).rejects.toMatchObject({ code: 'ERR_BUDGET_FROZEN' })
  expect(await run('unfreeze', 'acme', ...WHY)).toMatchObject({ code: 0 })
  expect(await run('set-limit', 'acme', 'usd=7', '--for', '1s', ...WHY)).toMatchObject({ code: 0, stderr: '' })
  await expect
    .poll(async () => (await kernel.sweep(), (await kernel.budgets())[0]), { timeout: 20_000, interval: 100 })
    .toMatchObject({ limit: 5_000_000_000, free: 4_000_000_000, balanced: true })
  expect(await kernel.forecast()).toMatchObject([{ free: 4_000_000_000, sinceMs: expect.any(Number) as number }])
  expect((await store.read(['pace/acme']))[0]?.value).toMatchObject({ samples: [{ spent: { usd: 0 } }] })
  await kernel.close()
  await store.close()
  expect((await run('leases')).stdout).toBe('No leases.\n')
  expect((await run('report')).stdout).toMatch(/^researcher +usd +1 +\$1\.00/m)
  expect(await cli(['audit', 'verify', ...where])).toMatchObject({ code: 0, stderr: '' })
  const doctor = await cliJson<DoctorJson>(['doctor', ...where])
  expect(doctor.checks.filter(({ result }) => result === 'fail')).toEqual([])
  await balancedAt(where)
}

describe('an address', () => {
  test.each([
    ['file:./run/.holdfast', { kind: 'file', at: './run/.holdfast' }],
    ['sqlite:/var/lib/budgets.db', { kind: 'sqlite', at: '/var/lib/budgets.db' }],
    ['redis://cache:6380/2', { kind: 'redis', at: 'redis://cache:6380/2' }],
    ['rediss://cache?prefix=team-a', { kind: 'redis', at: 'rediss://cache', part: 'team-a' }],
    [
      'postgresql://u:p@db/agents?schema=budgets&sslmode=require',
      { kind: 'postgres', at: 'postgresql://u:p@db/agents?sslmode=require', part: 'budgets' },
    ],
  ])('%s is read', (text, address) => {
    expect(parseStore(text)).toEqual(address)
  })

  test.each(['', 'file:', 'sqlite:', 'file://x/y', 'redis:', 'redis://', 'mysql://db/x', '/var/lib', 'postgres'])(
    '%j is none',
    async (text) => {
      expect(() => parseStore(text)).toThrow('Give one of file:DIR')
      expect((await cli(['status', '--store', text])).code).toBe(2)
    },
  )

  test('is shown without its password, and says where its chains lie', () => {
    expect(shownStore(parseStore('postgres://u:secret@db:5433/agents?schema=budgets'))).toBe('postgres://db:5433/agents?schema=budgets')
    expect(dataBeside(parseStore('file:a/b'), '.holdfast')).toBe('a/b')
    expect(dataBeside(parseStore('sqlite:a.db'), '.holdfast')).toBe('a.db.holdfast')
    expect(dataBeside(parseStore('redis://x'), '.holdfast')).toBe('.holdfast')
    expect(dataBeside(undefined, '.holdfast')).toBe('.holdfast')
  })
})

describe('file', () => {
  test('is the file store of another directory, with its chains there', async () => {
    const data = await declared({ acme: { usd: 1 } })
    expect((await cli(['status', '--store', `file:${data}`])).stdout).toBe((await cli(['status', '--data', data])).stdout)
    expect(await cli(['audit', 'verify', '--store', `file:${data}`])).toEqual(await cli(['audit', 'verify', '--data', data]))
    const missing = newData()
    expect((await cli(['status', '--store', `file:${missing}`])).stderr).toContain('does not exist')
    expect(existsSync(missing)).toBe(false)
  })
})

describe('sqlite', () => {
  test('does everything that an operator does', async () => {
    const file = join(folder(), 'budgets.db')
    await operateOn(['--store', `sqlite:${file}`], `${file}.holdfast`, async () => sqliteStore(file))
    expect(readdirSync(`${file}.holdfast`)).toEqual(['chains'])
  })

  test('that is not there is an error, and is not made by looking', async () => {
    const file = join(folder(), 'budgets.db')
    const { code, stderr } = await cli(['budget', 'status', '--store', `sqlite:${file}`])
    expect(code).toBe(1)
    expect(stderr).toContain(`There is no store in sqlite:${file}`)
    expect(existsSync(file)).toBe(false)
  })
})

describe.runIf(requireServer('redis-server', 'the command line on Redis'))('redis', () => {
  test('does everything that an operator does', async () => {
    const server = await startRedis(DURABLE)
    onTestFinished(() => server.stop())
    const url = `redis://127.0.0.1:${server.port}`
    const data = join(folder(), '.holdfast')
    const looked = await cli(['status', '--store', url, '--data', data])
    expect(looked.code).toBe(1)
    expect(looked.stderr).toContain(`There is no store in ${url}`)
    expect(await server.command('DBSIZE')).toBe(0)
    await operateOn(['--store', url, '--data', data], data, async () => {
      const client = new Redis(server.port, '127.0.0.1')
      client.on('error', () => {})
      const store = await redisStore(client)
      return { ...store, close: async () => (await store.close(), client.disconnect()) }
    })
    expect((await cli(['status', '--store', `${url}?prefix=other`, '--data', data])).stderr).toContain('There is no store')
  }, 60_000)

  test('that cannot be reached is an error within seconds', async () => {
    const { code, stderr } = await cli(['status', '--store', 'redis://127.0.0.1:1'])
    expect(code).toBe(1)
    expect(stderr).toContain('redis://127.0.0.1:1 cannot be reached: connect ECONNREFUSED')
  })
})

describe.runIf(requireServer('postgres', 'the command line on Postgres', postgresBinaries() !== undefined))('postgres', () => {
  test('is migrated first, then does everything that an operator does', async () => {
    const server = await startPostgres()
    onTestFinished(() => server.stop())
    const url = `${server.url}?schema=budgets`
    const data = join(folder(), '.holdfast')
    const looked = await cli(['status', '--store', url, '--data', data])
    expect(looked.code).toBe(1)
    expect(looked.stderr).toContain('has no tables yet. Run `holdfast store migrate')
    for (let round = 0; round < 2; round++)
      expect(await cli(['store', 'migrate', '--store', url])).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('is up to date') as string,
      })
    await operateOn(['--store', url, '--data', data], data, async () => {
      const pool = new Pool({ connectionString: server.url })
      pool.on('error', () => {})
      const store = await postgresStore(pool, { schema: 'budgets' })
      return { ...store, close: async () => (await store.close(), pool.end()) }
    })
  }, 120_000)

  test('that cannot be reached is an error within seconds', async () => {
    for (const command of [['status'], ['store', 'migrate']]) {
      const { code, stderr } = await cli([...command, '--store', 'postgres://127.0.0.1:1/agents'])
      expect(code).toBe(1)
      expect(stderr).toContain('ECONNREFUSED')
    }
  })
})

describe('store migrate', () => {
  test('of a store that makes itself has nothing to do; without one it asks which', async () => {
    expect((await cli(['store', 'migrate', '--store', 'sqlite:x.db'])).stdout).toContain('needs no migration')
    const { code, stderr } = await cli(['store', 'migrate'])
    expect(code).toBe(1)
    expect(stderr).toContain('Say which')
    expect((await cli(['store', 'migrate', '--help'])).stdout).toMatch(/^ {2}\$ holdfast store migrate/m)
  })
})

describe('a driver that is not installed', () => {
  test.each([
    ['redis://127.0.0.1:1', 'ioredis'],
    ['postgres://127.0.0.1:1/x', 'pg'],
  ])('for %s is named, with the command that installs it', async (url, driver) => {
    // As if it were not there: the resolver of this one process does not find it.
    const hook = `import { registerHooks } from 'node:module'
registerHooks({ resolve(specifier, context, next) {
  if (specifier === '${driver}') throw Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' })
  return next(specifier, context)
} })`
    const node = ['--import', `data:text/javascript,${encodeURIComponent(hook)}`]
    const { code, stderr } = await cli(['status', '--store', url], { node })
    expect(code).toBe(1)
    expect(stderr).toContain(`needs the package \`${driver}\`: npm install ${driver}`)
  })
})
