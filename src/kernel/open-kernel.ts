// `openKernel`: checks what it was given, opens the chain, declares the budgets, and looks after processes
// that died. Everything else happens in scopes.

import { hostname } from 'node:os'
import { assertAmount } from '../lib/amounts.ts'
import { systemClock, type Clock } from '../lib/clock.ts'
import { HoldfastError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { openChain, type Chain } from '../audit/chain.ts'
import { osBoot } from '../audit/last-words.ts'
import { assertStoreIsWhole } from '../audit/store-heads.ts'
import { declareBudgets } from '../budget/declare.ts'
import { createLedger } from '../budget/ledger.ts'
import { takeCuts } from '../budget/operator.ts'
import { GRACE_MS, LEASE_TTL_MS, createProcesses } from '../budget/processes.ts'
import type { BudgetDeclaration } from '../budget/declaration.ts'
import { Blackboard } from '../blackboard/blackboard.ts'
import { createNamespaces, type NamespaceAccess } from '../blackboard/namespaces.ts'
import { AuthGuardian, type Approval } from '../guardian/auth-guardian.ts'
import { closeHandoff } from '../handoff/handoff.ts'
import { loadPrices, type PriceOverride } from '../metering/prices.ts'
import { groupCommits } from '../stores/group.ts'
import type { Store } from '../stores/store.ts'
import type { Gate } from '../waist/gate.ts'
import type { HandoffClosing } from '../waist/handoff.ts'
import type { Hold, Settlement } from '../waist/hold.ts'
import type { Rule } from '../waist/rule.ts'
import type { Scope, ScopeIdentity } from '../waist/scope.ts'
import { approve } from './approve.ts'
import { createBrakes } from './cuts.ts'
import { warnOfEvents, type KernelEvent } from './events.ts'
import { createOperator, type Operator } from './operator.ts'
import { assertPromise, type Assumed, type Promised } from './promise.ts'
import { createReadings, type Readings } from './readings.ts'
import { createReports } from './reports.ts'
import { endKernel } from './end-kernel.ts'
import { createRecentIds } from './recent-ids.ts'
import { createScope } from './scope.ts'
import { createSuccessor } from './successor.ts'

/** Options of {@link openKernel}. */
export interface KernelOptions {
  /** Where budgets, approvals and process records lie: `memoryStore()`, `fileStore('.holdfast')`. */
  readonly store: Store
  /** Budgets by path: `{ acme: { usd: 50 }, 'acme/*': { usd: 2 } }`. @default those that the store has */
  readonly budgets?: Readonly<Record<string, BudgetDeclaration>>
  /** Rules on tools; with an empty list every tool is denied. @default no permissions are checked */
  readonly rules?: readonly Rule[]
  /** Who may read and write which namespace of the blackboard. @default every agent may use every namespace */
  readonly namespaces?: Readonly<Record<string, NamespaceAccess>>
  /** Gates of your own, asked after the built-in ones. */
  readonly gates?: readonly Gate[]
  /**
   * Prices of your own by model id; they win over the bundled list. `'*'` is for models that nobody knows, which are
   * refused without it; `readPrices` reads a file of them. @default the list alone
   */
  readonly prices?: Readonly<Record<string, PriceOverride>>
  /**
   * `observe` counts and records, and refuses nothing but what an operator has stopped. @default the environment variable HOLDFAST_MODE, else 'enforce'
   */
  readonly mode?: 'enforce' | 'observe'
  /** The data directory: the chain files lie in its `chains/`. @default that of the store; a memory store has none */
  readonly data?: string
  /** What a record of the audit chain survives: the death of the process (`os`), or a power cut too. @default 'os' */
  readonly audit?: 'os' | 'durable'
  /** How long an action waits for money that others hold, ms; 0: not at all. @default 5000 */
  readonly waitMs?: number
  /** After this long a hold is charged at worst, ms. @default 900000 (15 minutes) */
  readonly holdDeadlineMs?: number
  /** How long a process may be silent while it holds anything, ms. @default 10000, and 2000 of grace */
  readonly leaseTtlMs?: number
  /**
   * `auto` takes a budget that is used often in chunks, and spends those without asking the store; what a crash
   * strands of a budget is at most one chunk, and what calls under way had set aside. `off` asks for every action: for platforms that freeze a process between requests.
   *
   * @default 'auto'; 'off' where the environment says that it is such a platform
   */
  readonly leasing?: 'auto' | 'off'
  /**
   * `hard`: no limit is ever exceeded; refuses to open on a store that can forget what it acknowledged. `bounded`: opens
   * there too, and limits may be exceeded by what the store loses. @default 'hard'
   */
  readonly promise?: Promised
  /** Settings of the store's server that it does not let be read: `{ appendfsync: 'always' }`. Recorded in the chain. @default none */
  readonly assume?: Assumed
  /** Told what an operator should know. @default prints process warnings */
  readonly onEvent?: (event: KernelEvent) => void
  /** @default the wall clock */
  readonly clock?: Clock
}

/** One kernel: the budgets, permissions and audit chain of this process on one store. */
export interface Kernel extends AsyncDisposable, Operator, Readings {
  /** Identity of this process, and name of its chain file. */
  readonly boot: string
  readonly mode: 'enforce' | 'observe'
  readonly store: Store
  /** Ends of holds that still wait for the store. */
  readonly pendingReports: number
  /** The lines of a chain in memory; a chain file is read with `verifyAudit`. */
  readonly auditLines: readonly string[]
  /** An agent at work on a task, on a budget. */
  scope(identity: ScopeIdentity): Scope
  /**
   * A namespace of the blackboard, as the agent of a scope sees it: every write goes through the gates and into
   * the trail of that scope.
   *
   * @param namespace - A name. @default 'shared'
   */
  blackboard(scope: Scope, namespace?: string): Blackboard
  /**
   * Closes a handoff by its id, whichever process made it: what a giver that died has left comes back.
   *
   * @throws {HoldfastError} `ERR_STORE`
   */
  closeHandoff(id: string): Promise<HandoffClosing>
  /**
   * Approves one call of one tool with exactly these arguments; the next `begin` that fits uses it up.
   *
   * @param approval - `argsHash` is the one that `ERR_APPROVAL_REQUIRED` carries; `expiresInMs` at most 30 days.
   */
  approve(approval: Approval & { readonly expiresInMs: number }): Promise<void>
  /**
   * Reports what was spent from leases and gives back what lies idle in them, such as before a pause.
   *
   * @throws {HoldfastError} `ERR_STORE`
   */
  flush(): Promise<void>
  /** Moves the holds of silent processes to suspense now. Returns how many were moved. */
  sweep(): Promise<number>
  /** Charges open holds at worst, sends what is pending (up to 5 s for each step) and ends the chain. The store stays open: it is yours. */
  close(): Promise<void>
}

/** The leases of a process are looked at, and their spending reported, as often as it renews itself. */
const TICK_SHARE = 0.3
/** Names of the environment on platforms that freeze a process between two requests. */
const FREEZING = ['AWS_LAMBDA_FUNCTION_NAME', 'VERCEL', 'K_SERVICE', 'FUNCTIONS_WORKER_RUNTIME'] as const
/** A process that was only suspended for a while finds its handoffs open: they outlive it by this many times its TTL. */
const ORPHAN_TTLS = 5
/** A process renews itself three times within it; shorter, and a pause of garbage collection looks like a death. */
const MIN_LEASE_TTL_MS = 100
/** Version of the package, for records and messages. A test compares it with package.json. */
export const VERSION = '0.1.0'

/**
 * Opens a kernel.
 *
 * @throws {TypeError} {RangeError} For options that cannot be understood, naming the field.
 * @throws {HoldfastError} `ERR_BUDGET_DECLARATION` when the store has other limits under the same revision;
 *   `ERR_DAMAGE` when the store has lost writes that were acknowledged; `ERR_PROMISE` when it can lose them;
 *   `ERR_STORE`.
 */
export async function openKernel(options: KernelOptions): Promise<Kernel> {
  const { store, clock = systemClock } = options
  const settings = settingsOf(options)
  const directory = options.data ?? store.dataDirectory
  if (directory !== undefined) await assertStoreIsWhole(directory, store)
  const boot = newId()
  const wall = clock === systemClock ? {} : { wall: systemClock }
  const chain = openChain({ boot, clock, ...wall, durable: settings.durable, ...(directory === undefined ? {} : { directory }) })
  try {
    const self = { version: VERSION, node: process.version, ...settings.self, locked: chain.locked, durable: settings.durable }
    const assumed = Object.keys(settings.assume).length === 0 ? {} : { assume: settings.assume }
    const machine = osBoot()
    chain.append('open', {
      ...self,
      ...assumed,
      ...(machine === undefined ? {} : { osBoot: machine }),
      storeName: store.name,
      storeId: store.id,
    })
    return await start(options, settings, chain)
  } catch (error) {
    // Nobody will close a kernel that was never there.
    chain.close(true)
    throw error
  }
}

/** Checks the options, before anything is opened or written. */
function settingsOf(options: KernelOptions) {
  const { store, promise = 'hard', assume = {} } = options
  const { rules, namespaces, gates = [], audit = 'os', waitMs = 5_000, holdDeadlineMs = 900_000, leaseTtlMs = LEASE_TTL_MS } = options
  for (const [name, value] of Object.entries({ waitMs, holdDeadlineMs, leaseTtlMs })) assertDuration(name, value)
  if (leaseTtlMs < MIN_LEASE_TTL_MS) throw new RangeError(`\`leaseTtlMs\` must be at least ${MIN_LEASE_TTL_MS}, got ${leaseTtlMs}.`)
  if (audit !== 'os' && audit !== 'durable') throw new TypeError(`\`audit\` must be 'os' or 'durable', got ${JSON.stringify(audit)}.`)
  if (audit === 'durable' && (options.data ?? store.dataDirectory) === undefined)
    throw new TypeError('`audit: durable` needs a directory for the chain file: pass `data`.')
  for (const [index, gate] of gates.entries())
    if (typeof gate?.decide !== 'function') throw new TypeError(`\`gates[${index}]\` must have a function \`decide\`.`)
  const declared = createNamespaces(namespaces)
  assertPromise(store, promise, assume)
  return {
    self: { host: hostname(), pid: process.pid, mode: modeOf(options.mode), promise },
    assume,
    durable: audit === 'durable',
    waitMs,
    holdDeadlineMs,
    leaseTtlMs,
    leasing: leasingOf(options.leasing),
    namespaces: declared,
    gates: [
      ...(rules === undefined ? [] : [new AuthGuardian(rules, store)]),
      ...(namespaces === undefined ? [] : [declared.gate]),
      ...gates,
    ],
    emit: unfailing(options.onEvent ?? warnOfEvents()),
  }
}

async function start(options: KernelOptions, settings: ReturnType<typeof settingsOf>, chain: Chain): Promise<Kernel> {
  const { store, clock = systemClock } = options
  const { self, waitMs, holdDeadlineMs, leaseTtlMs, gates, namespaces, emit } = settings
  const { boot } = chain
  const observe = self.mode === 'observe'
  const committer = groupCommits(store, { boot, chainHead: () => chain.head(), onStoreHead: (head) => chain.noteStoreHead(head) })
  if (options.budgets !== undefined) {
    await declareBudgets(committer, options.budgets, (message) => emit({ type: 'revision-ignored', message }))
  }
  const trouble = (error: unknown): void =>
    emit({ type: 'trouble', message: `A background task failed and will be tried again: ${String(error)}` })
  const onSuspended = (other: string, holds: number): void => {
    chain.append('event', { type: 'suspended', process: other, holds })
    emit({ type: 'suspended', message: suspendedMessage(other, holds) })
  }
  const looks = { leaseTtlMs, graceMs: GRACE_MS, onSuspended, onTrouble: trouble }
  const processes = createProcesses({ committer, boot, description: self, ...looks })
  const reports = createReports()
  let closing: Promise<void> | undefined
  const assertOpen = (): void => {
    if (closing !== undefined) throw new HoldfastError('ERR_CLOSED', 'This kernel is closed.')
  }
  const delayed = (error: unknown): void =>
    emit({ type: 'report-delayed', message: `A take that was never acknowledged waits for the store to be undone: ${String(error)}` })
  const later = (work: () => Promise<void>): void => void reports.send(work, delayed)
  const waits = { leaseTtlMs, graceMs: GRACE_MS, now: () => clock.now() }
  const ledger = createLedger({
    succeed: createSuccessor({ directory: options.data ?? store.dataDirectory, committer, log: chain, emit, ...waits }),
    leasing: settings.leasing,
    tickMs: TICK_SHARE * leaseTtlMs,
    onTrouble: trouble,
    onWarning({ message, ...warning }) {
      chain.append('event', { type: 'budget-low', ...warning })
      emit({ type: 'budget-low', message })
    },
    committer,
    processes,
    log: chain,
    observe,
    waitMs,
    orphanMs: ORPHAN_TTLS * leaseTtlMs,
    now: () => clock.now(),
    assertOpen,
    later,
  })
  const sweep = async (): Promise<number> => {
    await takeCuts(committer, (raise) => chain.append('event', { type: 'raise-ended', ...raise }))
    for (const { budget, dimension, root, limit, sum } of await ledger.check()) {
      chain.append('event', { type: 'unbalanced', budget, dimension, limit, sum })
      const message = `Budget \`${budget}\` does not balance in ${dimension}: its columns sum up to ${sum}, its limit is ${limit}. The tree of \`${root}\` is frozen; \`holdfast budget recover\` says what to do.`
      emit({ type: 'unbalanced', message })
    }
    await ledger.sample().catch(trouble)
    return ledger.sweep()
  }
  await sweep()
  const context = {
    ...(await createBrakes(store, trouble)),
    promise: self.promise,
    ledger,
    log: chain,
    clock,
    reports,
    holdDeadlineMs,
    emit,
    paidResponses: createRecentIds(),
    open: new Set<Settlement>(),
    beginning: new Set<Promise<Hold>>(),
    gates,
    observe,
    store,
    committer,
    prices: lazily(() => loadPrices({ ...(options.prices === undefined ? {} : { overrides: options.prices }), now: () => clock.now() })),
    assertOpen,
  }
  const sweeping = setInterval(() => void sweep().catch(trouble), leaseTtlMs + GRACE_MS)
  sweeping.unref()

  const close = (): Promise<void> => {
    clearInterval(sweeping)
    context.cuts.stop()
    return (closing ??= endKernel(context, processes, committer, chain))
  }
  return {
    boot,
    mode: self.mode,
    store,
    get pendingReports() {
      return reports.pending
    },
    auditLines: chain.lines,
    ...createOperator({ committer, log: chain, onStops: () => context.stops.look(), assertOpen }),
    ...createReadings(store, ledger, () => closing === undefined),
    scope: (identity) => createScope(identity, context),
    blackboard(scope, namespace = 'shared') {
      if (scope.boot !== boot) throw new TypeError('The scope belongs to another kernel.')
      return new Blackboard(scope, namespace, { committer, namespaces, observe, assertOpen })
    },
    async closeHandoff(id) {
      assertOpen()
      return closeHandoff(id, { store, ledger, record: (kind, fields) => chain.append(kind, fields) })
    },
    async flush() {
      // A closed kernel has nothing left.
      if (closing === undefined) await ledger.flush()
    },
    async approve(approval) {
      assertOpen()
      await approve(approval, committer, chain)
    },
    async sweep() {
      assertOpen()
      return sweep()
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

const suspendedMessage = (process: string, holds: number): string =>
  `The silent process ${process} held money for ${holds === 1 ? 'one action' : `${holds} actions`}; it is in suspense now, and counts as spent until that process, or an operator, says otherwise.`

/** A listener that throws must not stand between a hold and its end. */
function unfailing(listener: (event: KernelEvent) => void): (event: KernelEvent) => void {
  return (event) => {
    try {
      listener(event)
    } catch (error) {
      process.emitWarning(`onEvent threw on \`${event.type}\`: ${String(error)}`, { type: 'HoldfastWarning', code: 'holdfast:listener' })
    }
  }
}

function modeOf(given: string | undefined): 'enforce' | 'observe' {
  const mode = given ?? (process.env['HOLDFAST_MODE'] || 'enforce')
  if (mode !== 'enforce' && mode !== 'observe')
    throw new TypeError(`\`mode\` (or HOLDFAST_MODE) must be 'enforce' or 'observe', got ${JSON.stringify(mode)}.`)
  return mode
}

function leasingOf(given: string | undefined): boolean {
  const leasing = given ?? (FREEZING.some((name) => process.env[name] !== undefined) ? 'off' : 'auto')
  if (leasing !== 'auto' && leasing !== 'off') throw new TypeError(`\`leasing\` must be 'auto' or 'off', got ${JSON.stringify(leasing)}.`)
  return leasing === 'auto'
}

function assertDuration(name: string, value: number): void {
  assertAmount(name, value)
  // Node's timers cannot wait longer; they would fire at once instead.
  if (value > 2_147_483_647) throw new RangeError(`\`${name}\` may be at most 2147483647 ms, got ${value}.`)
}

function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => (made ??= make())
}
