// One kernel where a module is evaluated again and again: a dev server that reloads, route handlers that are bundled one
// by one, two copies of this package. The registry is on globalThis under Symbol.for, so that all of them see the same.

import { toRecord } from '../budget/declaration.ts'
import { writeDeclared } from '../budget/declare.ts'
import { canonicalJson, isPlainObject, type Json } from '../lib/canonical-json.ts'
import { HoldfastError } from '../lib/errors.ts'
import { assertName } from '../lib/names.ts'
import type { Store } from '../stores/store.ts'
import { VERSION, openKernel, type Kernel, type KernelOptions } from './open-kernel.ts'

/** Options of {@link sharedKernel}: those of `openKernel`, with a function that makes the store. */
export interface SharedKernelOptions extends Omit<KernelOptions, 'store'> {
  /** Makes the store; asked only when the kernel is opened. The store belongs to the kernel and is closed with it. */
  readonly store: () => Store | Promise<Store>
}

/** Options as text, by name; those of `budgets` and the like one by one: `budgets.acme`. */
type Meaning = Readonly<Record<string, string>>

interface Shared {
  /** Of the package that opened it. */
  readonly version: string
  readonly meaning: Meaning
  readonly kernel: Promise<Kernel>
  closing?: Promise<void>
}

const KEY = Symbol.for('holdfast.kernels.1')

function registry(): Map<string, Shared> {
  const holder = globalThis as { [KEY]?: Map<string, Shared> }
  return (holder[KEY] ??= new Map())
}

/**
 * The kernel that is open under this key in this process, else a new one. For code that is evaluated more than once; a
 * program that opens its kernel in one place needs {@link openKernel} only.
 *
 * The key stands for the store and what is done with it: the same key must come with the same options. Functions
 * cannot be compared (gates of your own, schemas of rules, `onEvent`, `clock`, `store`): those of the call that opened
 * the kernel stay in force until it is closed. `close()` closes it for everybody who has it, and its store; the next
 * call then opens a new one. Each worker thread has its own.
 *
 * @param key - A name, such as that of your app.
 * @throws {HoldfastError} `ERR_SHARED_KERNEL` when it is open with other options, naming them, or by another version of
 *   this package; else as {@link openKernel}.
 */
export async function sharedKernel(key: string, options: SharedKernelOptions): Promise<Kernel> {
  assertName('key', key)
  if (typeof options.store !== 'function')
    throw new TypeError('Expected `store` to be a function that makes the store: it is asked only when the kernel is opened.')
  const meaning = meaningOf(options)
  for (;;) {
    const known = registry().get(key)
    if (known === undefined) return open(key, options, meaning)
    // Whoever closes it is told when that fails; here it is only waited for.
    if (known.closing !== undefined) await Promise.allSettled([known.closing])
    else {
      assertSame(key, known, meaning)
      return known.kernel
    }
  }
}

function open(key: string, options: SharedKernelOptions, meaning: Meaning): Promise<Kernel> {
  const leave = (): void => void (registry().get(key) === entry && registry().delete(key))
  const opening = openOwn(options, (closing) => {
    entry.closing = closing.finally(leave)
    return entry.closing
  })
  const entry: Shared = { version: VERSION, meaning, kernel: opening }
  registry().set(key, entry)
  // What did not open is tried again by the next one who asks.
  opening.catch(leave)
  return opening
}

/** A kernel with a store of its own; `onClose` is given the one close that there is. */
async function openOwn(
  { store: makeStore, ...options }: SharedKernelOptions,
  onClose: (closing: Promise<void>) => Promise<void>,
): Promise<Kernel> {
  const store = await makeStore()
  let kernel: Kernel
  try {
    kernel = await openKernel({ ...options, store })
  } catch (error) {
    await store.close()
    throw error
  }
  let closing: Promise<void> | undefined
  const closeBoth = async (): Promise<void> => {
    try {
      await kernel.close()
    } finally {
      await store.close()
    }
  }
  const close = (): Promise<void> => (closing ??= onClose(closeBoth()))
  // Not spread: some of its properties are read anew each time.
  return Object.defineProperties(
    {},
    {
      ...Object.getOwnPropertyDescriptors(kernel),
      close: { value: close, enumerable: true },
      [Symbol.asyncDispose]: { value: close },
    },
  ) as Kernel
}

/** Options whose parts are told one by one when they differ. */
const IN_PARTS = ['budgets', 'namespaces', 'prices', 'assume'] as const

function meaningOf({ budgets = {}, ...options }: SharedKernelOptions): Meaning {
  const limits = Object.entries(budgets).map(([path, declaration]) => [path, writeBudget(path, declaration)])
  const given = { ...options, budgets: Object.fromEntries(limits) as Readonly<Record<string, string>> }
  return Object.fromEntries(
    Object.entries(given).flatMap(([name, value]: [string, unknown]) => {
      if (value === undefined) return []
      const isInParts = (IN_PARTS as readonly string[]).includes(name) && isPlainObject(value)
      if (!isInParts) return [[name, canonicalJson(dataOf(value, 0))]]
      return Object.entries(value as object).map(([part, one]: [string, unknown]) => [
        `${name}.${part}`,
        typeof one === 'string' ? one : canonicalJson(dataOf(one, 0)),
      ])
    }),
  )
}

/** The same for `usd: 50` and `usd: '50.00'`. */
function writeBudget(path: string, declaration: Parameters<typeof toRecord>[1]): string {
  const record = toRecord(path, declaration)
  return `${writeDeclared(record)} (revision ${record.revision})`
}

const MAX_DEPTH = 16

/** What can be compared of a value; a function, or an object of some class, is only there. */
function dataOf(value: unknown, depth: number): Json {
  if (depth > MAX_DEPTH || typeof value === 'function' || value === undefined || typeof value === 'symbol') return `(${typeof value})`
  if (typeof value === 'bigint' || typeof value === 'number') return String(value)
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value
  if (Array.isArray(value)) return value.map((one) => dataOf(one, depth + 1))
  if (!isPlainObject(value)) return '(object)'
  return Object.fromEntries(Object.entries(value).map(([name, one]: [string, unknown]) => [name, dataOf(one, depth + 1)]))
}

const MAX_SHOWN = 100

function assertSame(key: string, { version, meaning: there }: Shared, here: Meaning): void {
  if (version !== VERSION) throw differs(key, `by holdfast ${version}, and this is holdfast ${VERSION}. Install one version: npm dedupe`)
  const names = [...new Set([...Object.keys(there), ...Object.keys(here)])].filter((name) => there[name] !== here[name])
  if (names.length === 0) return
  const shown = (text: string | undefined): string => (text === undefined ? 'not given' : text.slice(0, MAX_SHOWN))
  const differences = names.map((name) => `\`${name}\` is ${shown(here[name])} here, and ${shown(there[name])} there`)
  throw differs(key, `with other options: ${differences.join('; ')}. Close it first, restart the process, or use another key.`)
}

const differs = (key: string, how: string): HoldfastError =>
  new HoldfastError('ERR_SHARED_KERNEL', `The shared kernel \`${key}\` is open ${how}`)
