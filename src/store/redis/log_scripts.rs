//! The scripts of the log of purges. Its keys are in one slot, without a time to live:
//!
//! ```text
//! {NS.F}:n   string   INCARNATION:BASE:LAST:CLOCK:LOST          16 hexadecimal digits, three numbers, and `AFTER-UNTIL` up to four
//!                                                               times with commas between them
//! {NS.F}:l   stream   NUMBER-0  p PREDECESSOR  t PURGE          the entries, trimmed to about the last 65,536
//! {NS.F}:s   hash     i INCARNATION, and for each mark its last number
//! {NS.F}:g   hash     of what was announced: i INCARNATION, r REPLICATION, u 1 once there is `:u`, c the filter that is filled;
//!                     for each filter s BITS, o ONES and t TIME, from which on nothing counts that is in it (milliseconds)
//! {NS.F}:m0 to :m3    bits: names of URIs that were announced, four bits for each (a Bloom filter)
//! {NS.F}:u   string   65,536 places of 16 digits: the number of the last purge that was noted for a name of the place
//! ```
//!
//! A number is the time of the server in microseconds, or one more than the last where that is greater. So a number that a failover
//! has lost is not given again, unless the clock of the new primary is more than a day behind: numbers go on a day after the last one
//! that it knows or the time that it has, whichever is greater (see *Losses*). Everything is read and written by scripts, each of which is one step.
//!
//! *Filters.* A filter begins with 128 KiB, one that follows has eight times as many, up to 8 MiB. When a sixteenth of the
//! bits are set, the next one of four is filled, if there is none in its place in which anything counts; otherwise the same one goes on.
//! What was announced is in force until all filters that have it are dropped. A name that was not announced is taken for
//! one by chance: with as many bits set as that, one of 65,536 is; with all of them, each is, and each purge is an entry again.
//!
//! *Losses.* Where a filter, the places or their description are gone, everything older is (the base moves). `r` is the
//! replication id of the server, which is another one after a failover and after a start: what was announced since the last number that this
//! server knows may be lost, up to the moment at which that is found out, and a day more, for a server whose clock was ahead, and
//! for an old primary that does not know yet. Those numbers are a gap. Each script that announces or appends looks first, so no purge is missed.

use super::scripts::Script;

/// The names of the keys, in the order in which scripts get them.
pub(super) const KEYS: [&str; 9] = ["n", "l", "s", "g", "u", "m0", "m1", "m2", "m3"];

/// The state, which begins the log where there is none: a table without the log says nothing, nor does a log without it.
const BEGIN: &str = "
local incarnation, base, last, clock, lost
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
local function state()
  return incarnation .. ':' .. text(base) .. ':' .. text(last) .. ':' .. text(clock) .. ':' .. lost
end
local function save() redis.call('SET', KEYS[1], state()) end
local function replication()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
end
local function begin_filters()
  redis.call('DEL', KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
  redis.call('SETBIT', KEYS[6], 1048575, 0)
  redis.call('HSET', KEYS[4], 'i', incarnation, 'r', replication(), 'c', 0, 's0', 1048576, 'o0', 0, 't0', 0)
end
local found = redis.call('GET', KEYS[1])
if found then
  incarnation, base, last, clock, lost = string.match(found, '^(%x+):(%d+):(%d+):(%d+):([%d,-]*)$')
end
if incarnation then
  base, last, clock = tonumber(base), tonumber(last), tonumber(clock)
else
  incarnation, base, last, clock, lost = ARGV[1], now, now, now, ''
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[3], 'i', incarnation)
  begin_filters()
  save()
end
";

/// What was announced, and whether that can be relied on. Filters are counted from 0.
const ANNOUNCEMENTS: &str = "
local function tick(above) clock = math.max(now, clock + 1, above + 1) end
local size, ones, till, filling = {}, {}, {}, 0
local function read_filters()
  local of = redis.call('HMGET', KEYS[4], 'i', 'r', 'u', 'c',
    's0', 's1', 's2', 's3', 'o0', 'o1', 'o2', 'o3', 't0', 't1', 't2', 't3')
  filling = tonumber(of[4])
  local is_whole = of[1] == incarnation and filling
  for filter = 0, 3 do
    size[filter], ones[filter], till[filter] = tonumber(of[5 + filter]), tonumber(of[9 + filter]), tonumber(of[13 + filter])
    if size[filter] and redis.call('STRLEN', KEYS[6 + filter]) * 8 ~= size[filter] then is_whole = false end
  end
  if of[3] and redis.call('EXISTS', KEYS[5]) == 0 then is_whole = false end
  return is_whole, of[2]
end
local is_whole, primary = read_filters()
if not is_whole then
  tick(0)
  base, last = clock, clock
  begin_filters()
  read_filters()
  save()
elseif primary ~= replication() then
  local till = math.max(now, clock) + 86400000000
  if lost ~= '' then lost = lost .. ',' end
  lost = lost .. text(clock) .. '-' .. text(till)
  local after, till_second, others = string.match(lost, '^(%d+)%-%d+,%d+%-(%d+),(.*,.*,.*)$')
  if after then lost = after .. '-' .. till_second .. ',' .. others end
  clock = till
  redis.call('HSET', KEYS[4], 'r', replication())
  save()
end
";

/// KEYS: all. ARGV: a new incarnation.
const STATE: &str = "return state()";

/// KEYS: all. ARGV: a new incarnation. The state, and the time of the server in microseconds.
const TIMED_STATE: &str = "return {state(), now}";

/// KEYS: all. ARGV: a new incarnation, the first number, the most entries.
const READ: &str = "return {state(), redis.call('XRANGE', KEYS[2], ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])}";

/// KEYS: all. ARGV: a new incarnation, the length of the stream, the most fields of the table; and for each entry: a number, `1` to
/// drop older marks, the purge, how many marks, marks, how many URIs it asks for, and these: two numbers of 32 bits each for the
/// name and for that of its path. The state after each entry, and its predecessor, or nothing where it was noted.
const APPEND: &str = "
local function is_announced(low, high)
  for filter = 0, 3 do
    local is_there = size[filter] ~= nil
    for bit = 0, 3 do
      is_there = is_there and redis.call('GETBIT', KEYS[6 + filter], (low + bit * high) % size[filter]) == 1
    end
    if is_there then return true end
  end
  return false
end
local function asked(at) return tonumber(ARGV[at]), tonumber(ARGV[at + 1]) end
local ended, at = {}, 4
while at < #ARGV do
  local above, drops, purge, marks = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], at + 4
  local asks = marks + tonumber(ARGV[at + 3])
  at = asks + 1 + 4 * tonumber(ARGV[asks])
  local is_entry = at == asks + 1
  for name = asks + 1, at - 1, 2 do is_entry = is_entry or is_announced(asked(name)) end
  tick(above)
  if is_entry then
    local is_lost = redis.call('HGET', KEYS[3], 'i') ~= incarnation
    if is_lost or redis.call('HLEN', KEYS[3]) > tonumber(ARGV[3]) then base = clock end
    if base == clock or drops == '1' then
      redis.call('DEL', KEYS[3])
      redis.call('HSET', KEYS[3], 'i', incarnation)
    end
    for mark = marks, asks - 1 do redis.call('HSET', KEYS[3], ARGV[mark], text(clock)) end
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], text(clock) .. '-0', 'p', text(last), 't', purge)
    local before = text(last)
    last = clock
    ended[#ended + 1] = state()
    ended[#ended + 1] = before
  else
    for name = asks + 1, at - 1, 4 do
      redis.call('SETRANGE', KEYS[5], asked(name) % 65536 * 16, string.format('%016.0f', clock))
    end
    redis.call('HSET', KEYS[4], 'u', 1)
    ended[#ended + 1] = state()
    ended[#ended + 1] = ''
  end
end
save()
return ended
";

/// KEYS: all. ARGV: a new incarnation; for how many milliseconds something is kept, or nothing to only look; and for each name two
/// numbers of 32 bits. The state, and the greatest number that is noted for any of the names.
const ANNOUNCE: &str = "
local noted = 0
for name = 3, #ARGV, 2 do
  local place = ARGV[name] % 65536 * 16
  noted = math.max(noted, tonumber(redis.call('GETRANGE', KEYS[5], place, place + 15)) or 0)
end
if ARGV[2] ~= '' then
  if ones[filling] > size[filling] / 16 then
    local following = (filling + 1) % 4
    if not size[following] or till[following] < now / 1000 then
      local bits = math.min(size[filling] * 8, 67108864)
      redis.call('HDEL', KEYS[4], 's' .. following)
      redis.call('DEL', KEYS[6 + following])
      redis.call('SETBIT', KEYS[6 + following], bits - 1, 0)
      redis.call('HSET', KEYS[4], 'c', following, 's' .. following, text(bits), 'o' .. following, 0, 't' .. following, 0)
      filling, size[following], ones[following], till[following] = following, bits, 0, 0
    end
  end
  local new = 0
  for name = 3, #ARGV, 2 do
    for bit = 0, 3 do
      local place = (ARGV[name] + bit * ARGV[name + 1]) % size[filling]
      if redis.call('SETBIT', KEYS[6 + filling], place, 1) == 0 then new = new + 1 end
    end
  end
  local ends = math.max(till[filling], math.floor(now / 1000) + ARGV[2] + 86400000)
  redis.call('HSET', KEYS[4], 'o' .. filling, text(ones[filling] + new), 't' .. filling, text(ends))
  tick(0)
  save()
end
return {state(), text(noted)}
";

/// Where the memory is full, a purge may go beyond it. Servers before 7.0 have no such word, and refuse the script.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";

/// A script in two forms, of which a server takes the first one or the second one.
pub(super) struct LogScript {
    pub(super) modern: Script,
    pub(super) plain: Script,
}

impl LogScript {
    pub(super) fn append() -> Self {
        Self::new(&[BEGIN, ANNOUNCEMENTS, APPEND], true)
    }

    /// Nothing is stored where the memory is full, so nothing is announced.
    pub(super) fn announce() -> Self {
        Self::new(&[BEGIN, ANNOUNCEMENTS, ANNOUNCE], false)
    }

    pub(super) fn read() -> Self {
        Self::new(&[BEGIN, READ], true)
    }

    pub(super) fn state() -> Self {
        Self::new(&[BEGIN, STATE], true)
    }

    pub(super) fn timed_state() -> Self {
        Self::new(&[BEGIN, TIMED_STATE], true)
    }

    fn new(parts: &[&str], is_for_full_memory: bool) -> Self {
        let plain = parts.concat();
        let flags = if is_for_full_memory { ALLOW_OOM } else { "" };
        Self { modern: Script::new(format!("{flags}{plain}")), plain: Script::new(plain) }
    }
}
