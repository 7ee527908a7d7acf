// What the current asynchronous task runs under. It lives on globalThis under Symbol.for, since two copies of
// a package in one process are normal and must see the same.

import { AsyncLocalStorage } from 'node:async_hooks'

/** What an asynchronous task carries; the types are those of the waist, which this file may not import. */
export interface Ambient {
  /** The scope of `scope.enter`. */
  readonly scope?: object
  /** The run that the task belongs to. */
  readonly run?: object
  /** The hold of the model call that is being made. */
  readonly hold?: object | undefined
  /** The hold of the HTTP attempt that a transport guard sends: that of the model call, where it took that one. */
  readonly attempt?: object
  /**
   * Called for each hold of a model call, and for each call that fails before it is sent. Whoever compares these with the
   * calls that a framework says it made has put it here.
   */
  readonly onModelHold?: () => void
}

const KEY = Symbol.for('holdfast.ambient.1')

function storage(): AsyncLocalStorage<Ambient> {
  const holder = globalThis as { [KEY]?: AsyncLocalStorage<Ambient> }
  return (holder[KEY] ??= new AsyncLocalStorage())
}

/** What the current task carries; empty outside of any. */
export function ambient(): Ambient {
  return storage().getStore() ?? {}
}

/** Runs `fn` with these fields on top of what the current task carries. */
export function withAmbient<T>(fields: Ambient, fn: () => T): T {
  return storage().run({ ...ambient(), ...fields }, fn)
}
