// The tables and functions of the Postgres store. A group is one call of `apply_1`, and so one transaction.
//
// Why it is right. Every group begins by locking the one row of `meta`, and keeps that lock until it is committed
// or undone: groups of all processes run one after the other. Whatever statement comes after the lock sees all that
// was committed before it (READ COMMITTED gives each statement of a volatile function a snapshot of its own, and a
// commit is visible before its locks are released). So nothing that a group reads changes before it commits: not a
// counter, not a version, not the absence of a key, which no row lock could hold. Groups take no other lock in
// an order of their own, so they cannot deadlock. Where a role defaults to REPEATABLE READ or SERIALIZABLE the
// snapshot is older than the lock; but then the row of `meta` has changed if any group came in between, and
// Postgres refuses the lock with 40001.
//
// One row that everyone writes allows one commit at a time: group commit above makes that many batches.

import { applyFunction, LOCK, NOW, PLAN } from './apply.ts'

/** The format that this version writes; it reads no later one. */
export const POSTGRES_FORMAT = 1

/** What creates the tables and functions in a schema, whoever else does so at the same time; a single transaction. */
export function migrationSql(schema: string, id: string): string {
  const s = `"${schema}"`
  return `
    SELECT pg_advisory_xact_lock(1751346276, hashtext('${schema}'));
    DO $do$ BEGIN
      IF to_regnamespace('${s}') IS NULL THEN CREATE SCHEMA ${s}; END IF;
    END $do$;
    CREATE TABLE IF NOT EXISTS ${s}.meta (
      one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL, id text NOT NULL,
      version bigint NOT NULL, time_ms bigint NOT NULL, watched_until_ms bigint NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE IF NOT EXISTS ${s}.entries (
      key bytea PRIMARY KEY, version bigint NOT NULL, expires_at_ms bigint, amount bigint, value text,
      CHECK ((amount IS NULL) <> (value IS NULL))
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX IF NOT EXISTS entries_expiry ON ${s}.entries (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
    CREATE TABLE IF NOT EXISTS ${s}.fences (client text PRIMARY KEY, below bigint NOT NULL, at_ms bigint NOT NULL);
    INSERT INTO ${s}.meta VALUES (true, ${POSTGRES_FORMAT}, '${id}', 0, 0, 0) ON CONFLICT DO NOTHING;
    ${applyFunction({ schema: s, channel: channelOf(schema), format: POSTGRES_FORMAT })}
    ${readFunctions(s)}`
}

// Stable functions, whose statements all see the snapshot of the one that called them. The first row is the store's.
function readFunctions(s: string): string {
  const columns = `place bigint, version bigint, expires_at_ms bigint, amount bigint, value text, key text`
  const store = `IF pg_is_in_recovery() THEN RAISE EXCEPTION 'a standby may lag behind' USING ERRCODE = '25006'; END IF;
      SELECT * INTO m FROM ${s}.meta;
      now_ms := ${NOW};
      RETURN QUERY SELECT 0::bigint, m.version, now_ms, m.format::bigint, m.id, NULL::text WHERE m.id IS NOT NULL;`
  return `
    CREATE OR REPLACE FUNCTION ${s}.read_1(seen_ms bigint, keys bytea[]) RETURNS TABLE (${columns}) LANGUAGE plpgsql STABLE ${PLAN} AS $fn$
    #variable_conflict use_column
    DECLARE m record; now_ms bigint;
    BEGIN
      ${store}
      RETURN QUERY SELECT t.place, e.version, e.expires_at_ms, e.amount, e.value, NULL::text
        FROM unnest(keys) WITH ORDINALITY AS t (key, place) JOIN ${s}.entries e ON e.key = t.key
        WHERE e.expires_at_ms IS NULL OR e.expires_at_ms > now_ms;
    END $fn$;

    CREATE OR REPLACE FUNCTION ${s}.list_1(seen_ms bigint, first bytea, before bytea, most bigint) RETURNS TABLE (${columns})
    LANGUAGE plpgsql STABLE ${PLAN} AS $fn$
    #variable_conflict use_column
    DECLARE m record; now_ms bigint;
    BEGIN
      ${store}
      RETURN QUERY SELECT 1::bigint, e.version, e.expires_at_ms, e.amount, e.value, encode(e.key, 'hex') FROM ${s}.entries e
        WHERE e.key >= first AND e.key < before AND (e.expires_at_ms IS NULL OR e.expires_at_ms > now_ms) ORDER BY e.key LIMIT most;
    END $fn$;

    CREATE OR REPLACE FUNCTION ${s}.watch_1(for_ms bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE ${LOCK} AS $fn$
    DECLARE m record; seen_ms bigint := 0; now_ms bigint;
    BEGIN
      SELECT * INTO m FROM ${s}.meta FOR UPDATE;
      now_ms := ${NOW};
      -- Renewed long before it ends, and by one of many watchers for all.
      IF m.watched_until_ms < now_ms + for_ms / 2 THEN UPDATE ${s}.meta SET watched_until_ms = now_ms + for_ms; END IF;
      RETURN m.version;
    END $fn$;`
}

/** The channel on which a store tells of its changes. */
export function channelOf(schema: string): string {
  return `holdfast_${schema}`
}
