//! What Redis does in one go, as scripts: between two of them anybody may die.

/// Takes a job on. Keys: job, stream, all. Arguments: id, documents, how many steps, how many jobs at
/// most. Answers 1, 0 (known already) or -1 (too many).
pub const ADD: &str = "
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[4]) then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'documents', ARGV[2], 'total', ARGV[3], 'done', 0, 'created', now,
  'state', 'Waiting')
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -2 * ARGV[4])
redis.call('XADD', KEYS[2], '*', 'id', ARGV[1])
return 1";

/// Hands a job out: what this consumer has begun, else what a silent one has, else a new one. Keys:
/// stream. Arguments: group, consumer, how long a consumer may be silent in ms. Answers entry, id and how
/// many jobs there are.
pub const NEXT: &str = "
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
local function read(from)
  local answer = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1,
    'STREAMS', KEYS[1], from)
  return answer and answer[1][2][1]
end
local found = read('0')
if not found then
  found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], '0-0', 'COUNT', 1)[2][1]
end
if not found then found = read('>') end
local depth = redis.call('XLEN', KEYS[1])
if not found then return {'', '', depth} end
return {found[1], found[2] and found[2][2] or '', depth}";

/// Does some steps and notes that they are done, unless somebody else has. Keys: job, stream, then
/// one per document. Arguments: done before, done after, group, consumer, entry, then the documents.
pub const APPLY: &str = "
if redis.call('HGET', KEYS[1], 'done') ~= ARGV[1] then return 0 end
for i = 3, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 3]) end
redis.call('HSET', KEYS[1], 'done', ARGV[2], 'state', 'Running')
redis.call('XCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, ARGV[5], 'JUSTID')
return 1";

/// Puts a job away. Keys: job, stream. Arguments: group, entry, state, error, how long it is still
/// known in s. Answers 1 where this is news.
pub const FINISH: &str = "
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
local news = redis.call('XDEL', KEYS[2], ARGV[2])
local state = redis.pcall('HGET', KEYS[1], 'state')
if news == 0 or not state then return 0 end
-- It holds no job: what it came to is all that is known of it.
if type(state) == 'table' then
  if not string.find(state.err, 'WRONGTYPE') then return state end
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[1], 'documents')
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'error', ARGV[4],
  'finished', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1";

/// Forgets consumers that are gone and have left nothing behind. Keys: stream. Arguments: group,
/// consumer, how long they must have been silent in ms.
pub const TIDY: &str = "
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local it = {}
  for i = 1, #flat, 2 do it[flat[i]] = flat[i + 1] end
  if it.name ~= ARGV[2] and it.pending == 0 and it.idle > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], it.name)
  end
end
return 1";
