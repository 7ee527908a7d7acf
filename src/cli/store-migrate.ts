// `holdfast store migrate`: the tables of a Postgres store. The other stores need none.

import type { Command } from 'commander'
import { HoldfastError } from '../lib/errors.ts'
import { migrate } from './drivers.ts'
import { reports } from './output.ts'
import { shownStore } from './store-address.ts'

/** What `holdfast store migrate --json` prints. */
export interface StoreMigrateJson {
  readonly store: string
  /** False where there is nothing to migrate: such a store makes itself. */
  readonly migrated: boolean
}

/** Adds the command to `holdfast store`. */
export function addStoreMigrate(parent: Command): void {
  const command = parent.command('migrate').description('make the tables of a Postgres store, or bring them up to date')
  command.addHelpText(
    'after',
    `
Needs a user that may create a schema; your programs need less. Safe to repeat, and to run on many machines at once.

Examples:
  $ holdfast store migrate --store postgres://owner@db.internal/agents
  $ holdfast store migrate --store "postgres://owner@db.internal/agents?schema=budgets"`,
  )
  reports(command, async ({ store }) => {
    if (store === undefined)
      throw new HoldfastError('ERR_STORE', 'Say which: --store postgres://HOST/DATABASE. A file store needs no migration.')
    const shown = shownStore(store)
    if (store.kind !== 'postgres') {
      return {
        json: { store: shown, migrated: false } satisfies StoreMigrateJson,
        text: () => `${shown} needs no migration: it makes itself.\n`,
      }
    }
    await migrate(store)
    return { json: { store: shown, migrated: true } satisfies StoreMigrateJson, text: () => `${shown} is up to date.\n` }
  })
}
