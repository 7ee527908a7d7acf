// What a process has to know to find a store; it travels as JSON.

import { join } from 'node:path'

/** The kinds of store that are measured. */
export const KINDS = ['memory', 'file', 'sqlite', 'redis', 'postgres'] as const
/** One of them. */
export type Kind = (typeof KINDS)[number]

/** Where a store is. */
export interface Address {
  readonly kind: Kind
  readonly directory: string
  /** Of its server. */
  readonly port?: number
}

/** Connections that a process has to Postgres, whoever uses them. */
export const CONNECTIONS = 10

/** The address of a Postgres server. */
export const urlOf = ({ port }: Address): string => `postgres://postgres@127.0.0.1:${port}/postgres`

/** Where the chains lie, and what a file store has. */
export const dataOf = ({ directory }: Address): string => join(directory, 'data')
