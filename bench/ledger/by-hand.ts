// The yardstick: what one would write by hand for two levels of budget and three limits. A hold is two steps, as in the
// ledger. The first looks whether the hold exists, whether its process and both budgets are as they were, and whether
// there is enough of each; then it moves the amounts and writes a record. The second moves what was used, and removes
// it. Each step is one script, one function, or one transaction, at the durability that our store has.

import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { CONNECTIONS, urlOf, type Address } from './address.ts'

/** What each hold sets aside, and what it uses of it; as long as those of the kernel that stands beside it. */
export const WORST = { usd: 1_000, calls: 1 } as const
export const USED = { usd: 700, calls: 1 } as const
/** Its counters, and what each step moves. */
const LEGS = [
  ['usd/acme', WORST.usd, USED.usd],
  ['calls/acme', WORST.calls, USED.calls],
  ['usd/acme/bench', WORST.usd, USED.usd],
] as const
const CHECKED = ['process/1', 'budget/acme', 'budget/acme/bench'] as const
const PLENTY = 9e15
/** A record of our ledger has about as many bytes, and so has each line of its journal. */
const RECORD = JSON.stringify({ path: 'acme/bench', agent: 'bench', resource: 'spend', nonce: 'n'.repeat(22), legs: 'l'.repeat(90) })
const LINE_BYTES = { take: 980, settle: 700 } as const

/** Begins and ends holds. */
export interface ByHand {
  readonly hold: () => Promise<void>
  readonly close: () => Promise<void>
}

const TAKE_LUA = `
  if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then return 0 end
  local found = redis.call('MGET', unpack(KEYS, 3, 5))
  for i = 1, 3 do if found[i] ~= '1' then return 0 end end
  local free = redis.call('MGET', KEYS[6], KEYS[8], KEYS[10])
  for i = 1, 3 do if tonumber(free[i]) < tonumber(ARGV[i + 1]) then return 0 end end
  for i = 1, 3 do
    redis.call('DECRBY', KEYS[4 + 2 * i], ARGV[i + 1])
    redis.call('INCRBY', KEYS[5 + 2 * i], ARGV[i + 1])
  end
  redis.call('SET', KEYS[1], ARGV[1])
  return 1`
const SETTLE_LUA = `
  if redis.call('DEL', KEYS[1]) == 0 then return 0 end
  for i = 1, 3 do
    local worst, used = ARGV[2 * i - 1], ARGV[2 * i]
    redis.call('DECRBY', KEYS[3 * i], worst)
    redis.call('INCRBY', KEYS[3 * i + 1], used)
    if worst ~= used then redis.call('INCRBY', KEYS[3 * i - 1], worst - used) end
  end
  return 1`

const TABLES = `
  CREATE TABLE counters (key text PRIMARY KEY, free bigint NOT NULL, held bigint NOT NULL, spent bigint NOT NULL);
  CREATE TABLE records (key text PRIMARY KEY, version bigint NOT NULL, value text NOT NULL);`
const FUNCTIONS = `
  CREATE FUNCTION take(hold text, record text, legs text[], amounts bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM FROM records WHERE key IN (hold, 'suspended/' || hold);
    IF FOUND THEN RETURN false; END IF;
    IF (SELECT count(*) FROM records WHERE key IN ('process/1', 'budget/acme', 'budget/acme/bench') AND version = 1) < 3 THEN RETURN false; END IF;
    FOR i IN 1..3 LOOP
      UPDATE counters SET free = free - amounts[i], held = held + amounts[i] WHERE key = legs[i] AND free >= amounts[i];
      IF NOT FOUND THEN RAISE EXCEPTION 'exceeded'; END IF;
    END LOOP;
    INSERT INTO records VALUES (hold, 1, record);
    RETURN true;
  END $$;
  CREATE FUNCTION settle(hold text, legs text[], amounts bigint[], used bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$
  BEGIN
    DELETE FROM records WHERE key = hold;
    IF NOT FOUND THEN RETURN false; END IF;
    FOR i IN 1..3 LOOP
      UPDATE counters SET free = free + amounts[i] - used[i], held = held - amounts[i], spent = spent + used[i] WHERE key = legs[i];
    END LOOP;
    RETURN true;
  END $$;`

/** Puts what it works on where it is to work. */
export async function makeByHand(address: Address): Promise<void> {
  if (address.kind === 'redis') {
    const client = new Redis(address.port!, '127.0.0.1')
    await client.mset([...CHECKED.map((key) => [key, '1']), ...LEGS.map(([leg]) => [`free/${leg}`, String(PLENTY)])].flat())
    client.disconnect()
  }
  const rows = [
    ...LEGS.map(([leg]) => `INSERT INTO counters VALUES ('${leg}', ${PLENTY}, 0, 0);`),
    ...CHECKED.map((key) => `INSERT INTO records VALUES ('${key}', 1, '${RECORD}');`),
  ].join('\n')
  if (address.kind === 'postgres') {
    const pool = new Pool({ connectionString: urlOf(address) })
    pool.on('error', () => undefined)
    await pool.query(`CREATE SCHEMA by_hand; SET search_path = by_hand; ${TABLES} ${FUNCTIONS} ${rows}`)
    await pool.end()
  }
  if (address.kind === 'sqlite') {
    const database = new DatabaseSync(join(address.directory, 'by-hand.db'))
    database.exec(`PRAGMA journal_mode = WAL; ${TABLES} ${rows}`)
    database.close()
  }
}

let holds = 0
const newHold = (): string => `hold/${process.pid}/${++holds}`
function assertDone(isDone: unknown): void {
  if (isDone !== true && isDone !== 1) throw new Error(`A step by hand said ${String(isDone)}.`)
}

/** Opens it in this process. */
export function openByHand(address: Address): ByHand {
  if (address.kind === 'redis') return onRedis(address)
  if (address.kind === 'postgres') return onPostgres(address)
  if (address.kind === 'sqlite') return onSqlite(address)
  return address.kind === 'file' ? onFile(address) : inMemory()
}

function onRedis({ port }: Address): ByHand {
  const client = new Redis(port!, '127.0.0.1')
  client.defineCommand('take', { numberOfKeys: 11, lua: TAKE_LUA })
  client.defineCommand('settle', { numberOfKeys: 10, lua: SETTLE_LUA })
  const scripts = client as unknown as Record<'take' | 'settle', (...parts: readonly (string | number)[]) => Promise<unknown>>
  const taken = LEGS.flatMap(([leg]) => [`free/${leg}`, `out/${leg}`])
  const settled = LEGS.flatMap(([leg]) => [`free/${leg}`, `out/${leg}`, `spent/${leg}`])
  return {
    async hold() {
      const hold = newHold()
      assertDone(await scripts.take(hold, `suspended/${hold}`, ...CHECKED, ...taken, RECORD, ...LEGS.map(([, worst]) => worst)))
      assertDone(await scripts.settle(hold, ...settled, ...LEGS.flatMap(([, worst, used]) => [worst, used])))
    },
    close: async () => client.disconnect(),
  }
}

function onPostgres(address: Address): ByHand {
  const pool = new Pool({ connectionString: urlOf(address), max: CONNECTIONS, options: '-c search_path=by_hand' })
  // The server ends when all is measured, and may be faster than its connections.
  pool.on('error', () => undefined)
  const [legs, worst, used] = [LEGS.map(([leg]) => leg), LEGS.map(([, amount]) => amount), LEGS.map(([, , amount]) => amount)]
  const done = async (name: string, text: string, values: readonly unknown[]): Promise<void> => {
    const { rows } = await pool.query<{ done: boolean }>({ name, text, values: [...values] })
    assertDone(rows[0]!.done)
  }
  return {
    async hold() {
      const hold = newHold()
      await done('take', 'SELECT take($1, $2, $3, $4) AS done', [hold, RECORD, legs, worst])
      await done('settle', 'SELECT settle($1, $2, $3, $4) AS done', [hold, legs, worst, used])
    },
    close: () => pool.end(),
  }
}

function onSqlite({ directory }: Address): ByHand {
  const database = new DatabaseSync(join(directory, 'by-hand.db'))
  database.exec('PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000')
  const isThere = database.prepare('SELECT count(*) AS n FROM records WHERE key IN (?, ?)')
  const checked = database.prepare(`SELECT count(*) AS n FROM records WHERE key IN (${CHECKED.map(() => '?').join()}) AND version = 1`)
  const take = database.prepare('UPDATE counters SET free = free - ?1, held = held + ?1 WHERE key = ?2 AND free >= ?1')
  const write = database.prepare('INSERT INTO records VALUES (?, 1, ?)')
  const remove = database.prepare('DELETE FROM records WHERE key = ?')
  const settle = database.prepare('UPDATE counters SET free = free + ?1 - ?2, held = held - ?1, spent = spent + ?2 WHERE key = ?3')
  const step = (work: () => boolean): void => {
    database.exec('BEGIN IMMEDIATE')
    assertDone(work())
    database.exec('COMMIT')
  }
  return {
    async hold() {
      const hold = newHold()
      step(() => {
        if (isThere.get(hold, `suspended/${hold}`)!['n'] !== 0 || checked.get(...CHECKED)!['n'] !== CHECKED.length) return false
        const isEnough = LEGS.every(([leg, worst]) => take.run(worst, leg).changes === 1)
        write.run(hold, RECORD)
        return isEnough
      })
      step(() => {
        const isRemoved = remove.run(hold).changes === 1
        for (const [leg, worst, used] of LEGS) settle.run(worst, used, leg)
        return isRemoved
      })
    },
    close: async () => database.close(),
  }
}

/** No more than a journal can do without: two lines, each of them synced. It looks at nothing. */
function onFile({ directory }: Address): ByHand {
  const descriptor = openSync(join(directory, 'by-hand'), 'a')
  const lines = [LINE_BYTES.take, LINE_BYTES.settle].map((bytes) => Buffer.alloc(bytes, 97))
  return {
    async hold() {
      for (const line of lines) {
        writeSync(descriptor, line)
        fdatasyncSync(descriptor)
      }
    },
    close: async () => closeSync(descriptor),
  }
}

function inMemory(): ByHand {
  const counters = new Map<string, number>(LEGS.map(([leg]) => [`free/${leg}`, PLENTY]))
  const records = new Map<string, string>(CHECKED.map((key) => [key, RECORD]))
  const add = (key: string, by: number): void => void counters.set(key, (counters.get(key) ?? 0) + by)
  return {
    async hold() {
      const hold = newHold()
      assertDone(!records.has(hold) && !records.has(`suspended/${hold}`) && CHECKED.every((key) => records.has(key)))
      assertDone(LEGS.every(([leg, worst]) => counters.get(`free/${leg}`)! >= worst))
      for (const [leg, worst] of LEGS) {
        add(`free/${leg}`, -worst)
        add(`out/${leg}`, worst)
      }
      records.set(hold, RECORD)
      // As long as a commit in memory takes at least: whoever waits goes on later.
      await Promise.resolve()
      assertDone(records.delete(hold))
      for (const [leg, worst, used] of LEGS) {
        add(`out/${leg}`, -worst)
        add(`spent/${leg}`, used)
        add(`free/${leg}`, worst - used)
      }
    },
    close: async () => undefined,
  }
}
