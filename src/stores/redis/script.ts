// What runs inside Redis. A script is the only thing there that nobody can get between, so every use of the
// store is one: to open, to apply a group, to read, to list. Each begins by asking whether the data is still
// the data that its caller knows. Values are text that Lua never parses, except for whole numbers that are added to:
// those are doubles, exact up to 2^53, and written with %.0f, since tostring() keeps 14 digits only.

import { createHash } from 'node:crypto'

/** A script, and the name under which the server keeps it. */
export interface Script {
  readonly text: string
  readonly sha: string
}

/** Version of the stored layout. */
export const REDIS_FORMAT = 1
/** How long the server remembers a client that applies nothing, ms. */
export const CLIENT_MS = 600_000

const COMMON = `
local meta, cells, index, expiries, client = unpack(KEYS)
-- unpack() fails at about 8,000; even, since some lists are of pairs.
local CHUNK = 4000

local function integer(number)
  return string.format('%.0f', number)
end

-- Where the store stands, and what time it is; or what to answer instead.
local function stand(id, seen, floor)
  local found = redis.call('HMGET', meta, 'format', 'id', 'version', 'count', 'time', 'clock')
  if not found[2] then return nil, '["damage","gone"]' end
  if found[1] ~= '${REDIS_FORMAT}' then return nil, '["format",' .. cjson.encode(found[1]) .. ']' end
  if found[2] ~= (id or found[2]) then return nil, '["damage","other"]' end
  local version, count, time, then_ = tonumber(found[3]), tonumber(found[4]), tonumber(found[5]), tonumber(found[6])
  if not (version and count and time and then_) then return nil, '["damage","parts"]' end
  if version < seen then return nil, '["damage","back",' .. integer(version) .. ']' end
  if redis.call('HLEN', cells) ~= count or redis.call('ZCARD', index) ~= count then return nil, '["damage","parts"]' end
  local clock = redis.call('TIME')
  clock = clock[1] * 1000 + math.floor(clock[2] / 1000)
  -- A clock that was set back is caught up with at half its speed: time neither runs back nor stands still.
  local behind = time + math.max(0, math.floor((clock - then_) / 2))
  return { id = found[2], version = version, count = count, clock = clock, now = math.max(clock, behind, floor) }
end

-- The cells of keys from Redis: [version,expiresAtMs or 0,value]. false for absent ones.
local function load(keys)
  local texts = {}
  for from = 1, #keys, CHUNK do
    local part = redis.call('HMGET', cells, unpack(keys, from, math.min(from + CHUNK - 1, #keys)))
    for i = 1, #part do texts[from + i - 1] = part[i] end
  end
  return texts
end

local function live(text, now)
  local expires = string.match(text, '^%[%d+,(%d+),')
  return expires == '0' or tonumber(expires) > now
end
`

const OPEN = `${COMMON}
-- ARGV: id of a new store, or '' to open nothing but an old one; id of the old one, or ''.
local probe = KEYS[6]
-- A command that is denied must be found out here, not in the middle of a group.
for _, command in ipairs({
  { 'HSET', probe, 'f', '1' }, { 'HINCRBY', probe, 'f', '1' }, { 'HMGET', probe, 'f' }, { 'HLEN', probe }, { 'HDEL', probe, 'f' },
  { 'ZADD', probe, '0', 'm' }, { 'ZCARD', probe }, { 'ZRANGEBYSCORE', probe, '-inf', '0' }, { 'ZRANGEBYLEX', probe, '-', '+' },
  { 'ZREM', probe, 'm' }, { 'SET', probe, '', 'PX', '1' }, { 'GETRANGE', probe, '0', '1' }, { 'DEL', probe },
}) do
  local done = redis.pcall(unpack(command))
  if type(done) == 'table' and done.err then return '["failed",' .. cjson.encode(done.err) .. ']' end
end
if ARGV[1] ~= '' and redis.call('EXISTS', meta) == 0 then
  if redis.call('EXISTS', cells, index) > 0 then return '["damage","gone"]' end
  redis.call('DEL', expiries)
  redis.call('HSET', meta, 'format', '${REDIS_FORMAT}', 'id', ARGV[1], 'version', '0', 'count', '0', 'time', '0', 'clock', '0')
end
local state, instead = stand(ARGV[2] ~= '' and ARGV[2] or nil, 0, 0)
if instead then return instead end
redis.call('SET', client, string.rep('0', 32), 'PX', ${CLIENT_MS})
return '["ok",' .. integer(state.now) .. ',' .. integer(state.version) .. ',' .. cjson.encode(state.id) .. ']'
`

const APPLY = `${COMMON}
-- ARGV: id, highest version seen, highest time seen, latest time to apply at, sequence (16 digits), nonce (16
-- characters), message for who watches, and the group as JSON: its keys, and a flat list of operations that name
-- them by number.
local MAX = 9007199254740991
local PRUNE = 128
local REMEMBERED = 65536

local state, instead = stand(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
if instead then return instead end
local now = state.now

-- A driver may send a script twice, or long after its caller gave up.
local last = redis.call('GETRANGE', client, 0, 31)
if last == '' then return '["lapsed"]' end
if last == ARGV[5] .. ARGV[6] then return redis.call('GETRANGE', client, 32, -1) end
if tonumber(string.sub(last, 1, 16)) >= tonumber(ARGV[5]) then return '["stale"]' end
if now > tonumber(ARGV[4]) then return '["late",' .. integer(now) .. ']' end

local keys, ops = unpack(cjson.decode(ARGV[8]))
-- By number of the key. In Redis: whether it is there, and its time. For the batches: nil when absent or expired.
local there, timed = {}, {}
local version, expires, value = {}, {}, {}
for k, text in ipairs(load(keys)) do
  if text then
    local _, upto, itsVersion, itsTime = string.find(text, '^%[(%d+),(%d+),')
    if not upto then return '["damage","parts"]' end
    itsTime = tonumber(itsTime)
    there[k], timed[k] = true, itsTime
    if itsTime == 0 or itsTime > now then
      version[k], expires[k], value[k] = tonumber(itsVersion), itsTime, string.sub(text, upto + 1, -2)
    end
  end
end

local function whole(text)
  local number = tonumber(text)
  return number and number % 1 == 0 and number <= MAX and number >= -MAX and number or nil
end

local function refused(at, reason, its)
  return '{"refused":' .. at .. ',"reason":"' .. reason .. '","value":' .. (type(its) == 'number' and integer(its) or its) .. '}'
end

local sums = {}
-- What a batch breaks, or nil; changes nothing.
local function judge(at, checks, adds)
  for i = 0, checks - 1 do
    local actual = version[ops[at]] or 0
    if actual ~= ops[at + 1] then return '{"conflict":' .. i .. ',"version":' .. integer(actual) .. '}' end
    at = at + 2
  end
  for i = 0, adds - 1 do
    local k = ops[at]
    local its = version[k] and value[k] or 0
    local number = type(its) == 'number' and its or whole(its)
    if not number then return refused(i, 'type', its) end
    local sum = number + ops[at + 1]
    if sum > MAX or sum < -MAX then return refused(i, 'range', number) end
    if sum < ops[at + 2] then return refused(i, 'min', number) end
    if sum > ops[at + 3] then return refused(i, 'max', number) end
    sums[i] = sum
    at = at + 4
  end
end

local applied = state.version
local changed = {}
local function put(k, its, time)
  version[k], value[k], expires[k], changed[k] = applied, its, time, true
end
local function remove(k)
  version[k], value[k], expires[k], changed[k] = nil, nil, nil, true
end

local function take(at, adds, sets, deletes)
  applied = applied + 1
  local values = {}
  for i = 0, adds - 1 do
    put(ops[at], sums[i], expires[ops[at]] or 0)
    values[i + 1] = integer(sums[i])
    at = at + 4
  end
  for _ = 1, sets do
    local k, time = ops[at], ops[at + 2]
    -- A time that is over makes a key absent at once.
    if time > 0 and time <= now then remove(k) else put(k, ops[at + 1], time) end
    at = at + 3
  end
  for _ = 1, deletes do
    remove(ops[at])
    at = at + 1
  end
  return '[' .. table.concat(values, ',') .. ']'
end

local answers = {}
local at = 1
while at <= #ops do
  local upto, checks, adds, sets, deletes = at + ops[at], ops[at + 1], ops[at + 2], ops[at + 3], ops[at + 4]
  answers[#answers + 1] = judge(at + 5, checks, adds) or take(at + 5 + 2 * checks, adds, sets, deletes)
  at = upto
end

-- Nothing has been written so far. The cells as they are to be, each key once however many batches changed it.
local puts, new, gone, timing, untimed = {}, {}, {}, {}, {}
for k, key in ipairs(keys) do
  if changed[k] and version[k] then
    local its, time = value[k], expires[k]
    if type(its) == 'number' then its = integer(its) end
    puts[#puts + 1] = key
    puts[#puts + 1] = '[' .. integer(version[k]) .. ',' .. integer(time) .. ',' .. its .. ']'
    if not there[k] then
      new[#new + 1] = '0'
      new[#new + 1] = key
    end
    if time > 0 and time ~= timed[k] then
      timing[#timing + 1] = integer(time)
      timing[#timing + 1] = key
    elseif time == 0 and (timed[k] or 0) > 0 then
      untimed[#untimed + 1] = key
    end
  elseif changed[k] and there[k] then
    gone[#gone + 1] = key
    if timed[k] > 0 then untimed[#untimed + 1] = key end
  end
end

-- Whatever makes the server refuse writes (memory, a replica, a full disk) refuses the first one, before anything is written.
local first = redis.pcall('HSET', meta, 'version', integer(applied), 'count', integer(state.count + #new / 2 - #gone),
  'time', integer(now), 'clock', integer(state.clock))
if type(first) == 'table' and first.err then return '["failed",' .. cjson.encode(first.err) .. ']' end

local function write(command, key, list)
  for from = 1, #list, CHUNK do redis.call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list))) end
end
write('HSET', cells, puts)
write('ZADD', index, new)
write('HDEL', cells, gone)
write('ZREM', index, gone)
write('ZADD', expiries, timing)
write('ZREM', expiries, untimed)

local lapsed = redis.call('ZRANGEBYSCORE', expiries, '-inf', integer(now), 'LIMIT', 0, PRUNE)
if #lapsed > 0 then
  redis.call('HINCRBY', meta, 'count', -#lapsed)
  write('HDEL', cells, lapsed)
  write('ZREM', index, lapsed)
  write('ZREM', expiries, lapsed)
end

local reply = '["ok",' .. integer(now) .. ',' .. integer(applied) .. ',[' .. table.concat(answers, ',') .. ']]'
redis.call('SET', client, ARGV[5] .. ARGV[6] .. (#reply <= REMEMBERED and reply or '["forgotten"]'), 'PX', ${CLIENT_MS})
-- Who may not publish is woken by the poll.
if applied > state.version then redis.pcall('PUBLISH', 'holdfast:' .. state.id, ARGV[7]) end
return reply
`

const READ = `${COMMON}
-- ARGV: id, highest version seen, highest time seen, the keys as JSON.
local state, instead = stand(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
if instead then return instead end
local texts = load(cjson.decode(ARGV[4]))
for i = 1, #texts do
  if not (texts[i] and live(texts[i], state.now)) then texts[i] = 'null' end
end
return '["ok",' .. integer(state.now) .. ',' .. integer(state.version) .. ',[' .. table.concat(texts, ',') .. ']]'
`

const LIST = `${COMMON}
-- ARGV: id, highest version seen, highest time seen, lower and upper bound as ZRANGEBYLEX takes them, limit.
local state, instead = stand(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
if instead then return instead end
local from, upto, limit = ARGV[4], ARGV[5], tonumber(ARGV[6])
local found, texts = {}, {}
while #found < limit do
  local keys = redis.call('ZRANGEBYLEX', index, from, upto, 'LIMIT', 0, math.min(limit - #found, CHUNK))
  if #keys == 0 then break end
  for i, text in ipairs(load(keys)) do
    if not text then return '["damage","parts"]' end
    if live(text, state.now) then
      found[#found + 1] = keys[i]
      texts[#texts + 1] = text
    end
  end
  from = '(' .. keys[#keys]
end
-- An empty table would become {}.
local names = #found == 0 and '[]' or cjson.encode(found)
return '["ok",' .. integer(state.now) .. ',' .. integer(state.version) .. ',[' .. table.concat(texts, ',') .. '],' .. names .. ']'
`

/** The scripts. Their keys: meta, cells, index, expiries, client; to open also one to try commands on. */
export const SCRIPTS: Readonly<Record<'open' | 'apply' | 'read' | 'list', Script>> = {
  open: named(OPEN),
  apply: named(APPLY),
  read: named(READ),
  list: named(LIST),
}

function named(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}
