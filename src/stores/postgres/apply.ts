// `apply_1`, the function of a Postgres store that judges a group and applies what passes. Why it is right is said in
// postgres/schema.ts.
//
// `program` is what the batches do, as one row of numbers that postgres/wire.ts writes: keys and values by their
// place, since arrays of numbers are what plpgsql handles fastest. The rows of all keys are read once, the batches
// are judged on arrays, and what is left is written once, however often a group touched a key.

/** Milliseconds of the server, never before what the store or this client saw. */
export const NOW = `greatest(m.time_ms, seen_ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)`

/**
 * Rows are found by key, whatever the planner believes of tables that it has not analysed yet. (The price that it puts
 * on what is switched off would make it compile every statement.)
 */
export const PLAN = `SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan`

/** How long a client that lost a reply is remembered: longer than any request of its can still arrive, ms. */
const FENCE_MS = 7 * 24 * 3_600_000
/** Longest notification; the server's limit is 8,000 bytes. */
const MAX_PAYLOAD_BYTES = 7_900
/** Most notifications of one group; a larger one says that everything has changed. */
const MAX_NOTICES = 16

/** A request whose client has given up waits no longer than this, and then has certainly done nothing. */
export const LOCK = `SET lock_timeout = '4s'`

/** Where the function is to be, and what it is to know. */
export interface ApplyOptions {
  /** The quoted name of the schema. */
  readonly schema: string
  readonly channel: string
  readonly format: number
}

/** The SQL that makes the function. */
export function applyFunction({ schema, channel, format }: ApplyOptions): string {
  return `
    CREATE OR REPLACE FUNCTION ${schema}.apply_1(
      store_id text, seen_version bigint, seen_ms bigint, client text, epoch bigint, fence boolean,
      keys bytea[], program bigint[], amounts bigint[], given text[]
    ) RETURNS text LANGUAGE plpgsql VOLATILE ${PLAN} ${LOCK} AS $fn$
    DECLARE
      m record; now_ms bigint; latest bigint; each bigint;
      code bigint[] := program; amount_of bigint[] := amounts; text_of text[] := given;
      versions bigint[]; numbers bigint[]; expiries bigint[]; source bigint[]; changed bigint[];
      answer bigint[] := '{}'; texts text[] := '{}'; sums bigint[] := '{}';
      n integer := coalesce(array_length(program, 1), 0);
      at integer := 1; w integer := 1; p integer; k integer; i integer; checks integer; adds integer; sets integer; deletes integer;
      reason integer; base bigint; total bigint; refused boolean; one text;
    BEGIN
      ${lockStore(schema, format)}
      ${lookUp(schema)}
      latest := m.version;
      WHILE at <= n LOOP
        checks := code[at + 1]; adds := code[at + 2]; sets := code[at + 3]; deletes := code[at + 4];
        p := at + 5;
        at := at + code[at];
        refused := false;
        ${judge(schema)}
        ${CHANGE}
      END LOOP;
      IF latest > m.version THEN
        ${write(schema)}
        ${notify(channel)}
      END IF;
      RETURN json_build_array('applied', m.version, latest, now_ms, answer, texts)::text;
    END $fn$;`
}

// Whoever is not let through here has changed nothing.
function lockStore(s: string, format: number): string {
  return `
    SELECT * INTO m FROM ${s}.meta FOR UPDATE;
    IF NOT FOUND OR m.id <> store_id OR m.version < seen_version OR m.format <> ${format} THEN
      RETURN json_build_array('other', m.id, m.version, m.format)::text;
    END IF;
    now_ms := ${NOW};
    IF fence THEN
      INSERT INTO ${s}.fences VALUES (client, epoch, now_ms)
        ON CONFLICT ON CONSTRAINT fences_pkey DO UPDATE SET below = greatest(fences.below, excluded.below), at_ms = excluded.at_ms;
      DELETE FROM ${s}.fences f WHERE f.at_ms < now_ms - ${FENCE_MS};
    END IF;
    IF EXISTS (SELECT FROM ${s}.fences f WHERE f.client = apply_1.client AND f.below > epoch) THEN
      RETURN json_build_array('fenced', m.id, m.version, m.format)::text;
    END IF;`
}

// The rows of all keys, in the order in which the program names them.
function lookUp(s: string): string {
  return `
    SELECT array_agg(r.version), array_agg(r.amount), array_agg(r.expires_at_ms), array_agg(0::bigint), array_agg(0::bigint)
      INTO versions, numbers, expiries, source, changed
      FROM (
        SELECT coalesce(e.version, 0) AS version, e.amount, e.expires_at_ms FROM unnest(keys) WITH ORDINALITY AS t (key, place)
          LEFT JOIN ${s}.entries e ON e.key = t.key AND (e.expires_at_ms IS NULL OR e.expires_at_ms > now_ms) ORDER BY t.place
      ) AS r;`
}

// The checks and adds of one batch. Sums are kept until it is known that all of them pass.
function judge(s: string): string {
  return `
    FOR i IN 1..checks LOOP
      k := code[p];
      IF versions[k] <> code[p + 1] THEN
        answer[w] := 1; answer[w + 1] := k; answer[w + 2] := versions[k]; w := w + 3;
        refused := true;
        EXIT;
      END IF;
      p := p + 2;
    END LOOP;
    CONTINUE WHEN refused;

    FOR i IN 1..adds LOOP
      k := code[p];
      base := numbers[k];
      IF base IS NULL THEN
        IF versions[k] = 0 THEN
          base := 0;
        ELSE
          IF source[k] = 0 THEN
            SELECT e.value INTO one FROM ${s}.entries e WHERE e.key = keys[k];
            texts := texts || one;
          END IF;
          answer[w] := 2; answer[w + 1] := k; answer[w + 2] := 3; answer[w + 3] := source[k]; w := w + 4;
          refused := true;
          EXIT;
        END IF;
      END IF;
      total := base + code[p + 1];
      reason := CASE
        WHEN total NOT BETWEEN -9007199254740991 AND 9007199254740991 THEN 2
        WHEN total < code[p + 2] THEN 0
        WHEN total > code[p + 3] THEN 1
      END;
      IF reason IS NOT NULL THEN
        answer[w] := 2; answer[w + 1] := k; answer[w + 2] := reason; answer[w + 3] := base; w := w + 4;
        refused := true;
        EXIT;
      END IF;
      sums[i] := total;
      p := p + 4;
    END LOOP;
    CONTINUE WHEN refused;`
}

// What a batch that passed leaves, for the batches after it and for the end.
const CHANGE = `
    latest := latest + 1;
    answer[w] := 0; w := w + 1;
    p := p - 4 * adds;
    FOR i IN 1..adds LOOP
      k := code[p];
      versions[k] := latest; numbers[k] := sums[i]; changed[k] := 1;
      answer[w] := sums[i]; w := w + 1;
      p := p + 4;
    END LOOP;
    FOR i IN 1..sets LOOP
      k := code[p];
      IF code[p + 2] <= now_ms THEN
        -- It is absent from the beginning.
        versions[k] := 0; numbers[k] := NULL; expiries[k] := NULL; source[k] := 0; changed[k] := 2;
      ELSE
        source[k] := code[p + 1]; numbers[k] := amount_of[code[p + 1]];
        expiries[k] := code[p + 2]; versions[k] := latest; changed[k] := 1;
      END IF;
      p := p + 3;
    END LOOP;
    FOR i IN 1..deletes LOOP
      k := code[p];
      versions[k] := 0; numbers[k] := NULL; expiries[k] := NULL; source[k] := 0; changed[k] := 2;
      p := p + 1;
    END LOOP;`

// Each key that was changed is written once; now and then, what has expired goes.
function write(s: string): string {
  return `
    INSERT INTO ${s}.entries AS e
      SELECT t.key, t.version, t.expiry, t.number, CASE WHEN t.number IS NULL THEN text_of[t.source] END
        FROM unnest(keys, versions, expiries, numbers, source, changed) AS t (key, version, expiry, number, source, changed)
        WHERE t.changed = 1
      ON CONFLICT ON CONSTRAINT entries_pkey DO UPDATE
        SET version = excluded.version, expires_at_ms = excluded.expires_at_ms, amount = excluded.amount, value = excluded.value;
    IF 2 = ANY (changed) THEN
      DELETE FROM ${s}.entries e USING unnest(keys, changed) AS t (key, changed) WHERE t.changed = 2 AND e.key = t.key;
    END IF;
    IF latest / 1024 > m.version / 1024 THEN
      DELETE FROM ${s}.entries e WHERE e.key IN (SELECT x.key FROM ${s}.entries x WHERE x.expires_at_ms <= now_ms LIMIT 1000);
    END IF;
    UPDATE ${s}.meta SET version = latest, time_ms = now_ms;`
}

// Keys that fit into one notification or a few are named; of more it is only said that they changed.
function notify(channel: string): string {
  return `
    IF m.watched_until_ms > now_ms THEN
      SELECT count(*), ${MAX_PAYLOAD_BYTES - 200} / (1 + max(octet_length(encode(t.key, 'escape')))) INTO total, each
        FROM unnest(keys, changed) AS t (key, changed) WHERE t.changed > 0;
      IF total = 0 THEN
        NULL;
      ELSIF each = 0 OR total > each * ${MAX_NOTICES} THEN
        PERFORM pg_notify('${channel}', concat_ws(E'\\n', client, latest, 'all'));
      ELSE
        PERFORM pg_notify('${channel}', concat_ws(E'\\n', client, latest, 'keys', string_agg(encode(t.key, 'escape'), E'\\n')))
          FROM (SELECT t.key, row_number() OVER () / each AS part FROM unnest(keys, changed) AS t (key, changed) WHERE t.changed > 0) AS t
          GROUP BY t.part;
      END IF;
    END IF;`
}
