// `holdfast audit verify`: is what the chains say what happened?

import type { Command } from 'commander'
import { verifyAudit, type ChainVerdict } from '../audit/verify.ts'
import { chainNamed, chainsOf, firstRecord } from './chain-files.ts'
import { assertDataDirectory, hasStore, withStore } from './open-store.ts'
import { faultOf, reports, type Fault, type Report } from './output.ts'
import type { Place } from './store-address.ts'
import { table, type Cell } from './table.ts'
import { plural, type Style } from './text.ts'

/** What `holdfast audit verify --json` prints. */
export interface AuditVerifyJson {
  /** True when every chain holds and was compared with the store, where there is one. */
  readonly ok: boolean
  /** Whether the chains were compared with the heads in the store: only then a cut tail is seen. */
  readonly comparedWithStore: boolean
  readonly chains: readonly ChainVerdict[]
}

/** Chains as they were verified, and why they were not compared with a store, if they were not. */
export interface Verification {
  readonly verdicts: readonly ChainVerdict[]
  readonly comparedWithStore: boolean
  /** Set when there should have been a store that can be read. */
  readonly fault?: Fault
}

/** Adds the command to `holdfast audit`. */
export function addAuditVerify(parent: Command): void {
  const command = parent
    .command('verify')
    .description('check every record of every chain, and each chain against the store')
    .option('--chain <id>', 'only this chain; the first characters of its id are enough')
  command.addHelpText(
    'after',
    `
Columns:
  records      records that are there and hold
  beyond head  newest records that the store has not heard of yet: only the file itself vouches for them

Exit code 1 when any chain is bad.

Examples:
  $ holdfast audit verify
  $ holdfast audit verify --chain hV3kQx2a --json`,
  )
  reports(command, (place) => auditVerify(place, command.opts<{ chain?: string }>().chain))
}

async function auditVerify(place: Place, chain: string | undefined): Promise<Report> {
  assertDataDirectory(place.data)
  const { verdicts: all, comparedWithStore, fault } = await verifyDirectory(place)
  const known = all.map(({ chain }) => chain)
  const wanted = chain === undefined ? undefined : chainNamed(known, chain)
  const verdicts = wanted === undefined ? all : all.filter(({ chain }) => chain === wanted)
  const bad = verdicts.filter(({ ok }) => !ok)
  const message = bad.map(({ chain, fault }) => `The chain ${chain} is bad: ${fault}`).join('\n')
  return {
    json: { ok: bad.length === 0 && fault === undefined, comparedWithStore, chains: verdicts } satisfies AuditVerifyJson,
    text: (style) => verdictText(verdicts, comparedWithStore, style),
    fault: bad.length > 0 ? { code: 'ERR_DAMAGE', message: fault === undefined ? message : `${message}\n${fault.message}` } : fault,
  }
}

/** Verifies the chains of a data directory, with its store where that can be read. */
export async function verifyDirectory(place: Place): Promise<Verification> {
  const { data: directory } = place
  if (place.store !== undefined || hasStore(directory)) {
    try {
      return { verdicts: await withStore(place, (store) => verifyAudit(directory, store)), comparedWithStore: true }
    } catch (error) {
      // The chains are evidence also, and above all, when the store is damaged: they are checked by themselves.
      return { verdicts: await verifyAudit(directory), comparedWithStore: false, fault: faultOf(error) }
    }
  }
  const named = storeNamed(directory)
  const verdicts = await verifyAudit(directory)
  if (named === undefined) return { verdicts, comparedWithStore: false }
  const message = `The chains were written beside the store "${named}", and there is none in ${directory}: what is missing at their ends cannot be seen.`
  return { verdicts, comparedWithStore: false, fault: { code: 'ERR_STORE', message } }
}

/** The file store that a chain of this directory names in its first record. */
function storeNamed(directory: string): string | undefined {
  for (const chain of chainsOf(directory)) {
    const name = firstRecord(directory, chain)?.['storeName']
    if (typeof name === 'string' && name.startsWith('file ')) return name
  }
  return undefined
}

function verdictText(verdicts: readonly ChainVerdict[], comparedWithStore: boolean, style: Style): string {
  if (verdicts.length === 0) return 'No chains yet.\n'
  const rows = verdicts.map(({ chain, ok, records, beyondHead, fault }): readonly Cell[] => [
    chain,
    records.toLocaleString('en-US'),
    comparedWithStore ? String(beyondHead) : '?',
    ok ? ['green', 'ok'] : ['red', `BAD: ${fault}`],
  ])
  const columns = [
    { title: 'chain' },
    { title: 'records', align: 'right' as const },
    { title: 'beyond head', align: 'right' as const },
    { title: 'verdict' },
  ]
  const bad = verdicts.filter(({ ok }) => !ok).length
  const records = verdicts.reduce((sum, { records }) => sum + records, 0)
  const sentence = bad === 0 ? 'all hold' : `${bad} bad`
  const alone = comparedWithStore ? '' : ' Not compared with a store: a cut tail cannot be seen.'
  return `${table(columns, rows, style)}\n${plural(verdicts.length, 'chain')}, ${plural(records, 'record')}: ${sentence}.${alone}\n`
}
