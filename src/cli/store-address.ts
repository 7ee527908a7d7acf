// Which store a command is about: `file:DIR`, `sqlite:FILE`, `redis://...` or `postgres://...`.

import { resolve } from 'node:path'

/** A store as it is named on the command line. */
export interface StoreAddress {
  readonly kind: 'file' | 'sqlite' | 'redis' | 'postgres'
  /** A directory, a file, or what the driver is given. */
  readonly at: string
  /** The prefix of a Redis store, or the schema of a Postgres store, where it is not the default. */
  readonly part?: string
}

/** Where a command looks. */
export interface Place {
  /** The data directory: the chains lie in its `chains/`. */
  readonly data: string
  /** @default the file store of the data directory */
  readonly store?: StoreAddress
}

/** What `--store` takes, for messages. */
export const ADDRESSES = 'file:DIR, sqlite:FILE, redis://HOST:PORT or postgres://HOST/DATABASE'

/** The parameter of an address that names a part of its server. */
const PARTS = { redis: 'prefix', postgres: 'schema' } as const
const SCHEMES: Readonly<Record<string, keyof typeof PARTS>> = {
  'redis:': 'redis',
  'rediss:': 'redis',
  'postgres:': 'postgres',
  'postgresql:': 'postgres',
}

/**
 * Reads an address.
 *
 * @throws {TypeError} Saying what one looks like.
 */
export function parseStore(text: string): StoreAddress {
  const [, kind, path] = /^(file|sqlite):(.*)$/s.exec(text) ?? []
  if (kind !== undefined && path !== undefined && path !== '' && !path.startsWith('//'))
    return { kind: kind as 'file' | 'sqlite', at: path }
  const url = URL.canParse(text) ? new URL(text) : undefined
  const server = url === undefined ? undefined : SCHEMES[url.protocol]
  if (url === undefined || server === undefined || url.hostname === '') throw new TypeError(`Give one of ${ADDRESSES}.`)
  const part = url.searchParams.get(PARTS[server])
  // The driver would not know what to do with it.
  url.searchParams.delete(PARTS[server])
  return { kind: server, at: url.href, ...(part === null ? {} : { part }) }
}

/** The store as it is shown to people: without passwords. */
export function shownStore({ kind, at, part }: StoreAddress): string {
  if (kind === 'file' || kind === 'sqlite') return `${kind}:${resolve(at)}`
  const url = new URL(at)
  const named = part === undefined ? '' : `?${PARTS[kind]}=${part}`
  return `${url.protocol}//${url.host}${url.pathname === '/' ? '' : url.pathname}${named}`
}

/** Where the chains of the processes on a store lie, unless `--data` says otherwise. */
export function dataBeside(store: StoreAddress | undefined, fallback: string): string {
  if (store?.kind === 'file') return store.at
  return store?.kind === 'sqlite' ? `${store.at}.holdfast` : fallback
}
