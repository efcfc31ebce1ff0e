-- Each request carries a line of its own from this thread's file. Nothing new is sent after the window, and what is under
-- way is waited for, so that what was answered can be compared with what was charged.
-- Arguments: file prefix, header name, tickets in each file, ramp seconds, window seconds, this thread's calls a second
-- (0: as many as are answered).
local ffi = require('ffi')
ffi.cdef [[ typedef struct { long s; long ns; } bench_time; int clock_gettime(int, bench_time *); ]]
local time = ffi.new('bench_time')
local MONOTONIC = 1
local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.s) + tonumber(time.ns) / 1e9
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
  thread:set('id', #threads)
end

function init(args)
  lines = io.lines(args[1] .. '.' .. id)
  header, left = args[2], tonumber(args[3])
  ramp, window, rate = tonumber(args[4]), tonumber(args[5]), tonumber(args[6])
  spare = 256 -- connections that have passed delay() and have not asked for their request yet
  -- wrk asks the first thread for one request that it doesn't send.
  sent = id == 1 and -1 or 0
  good, bad, windowGood, exhausted = 0, 0, 0, false
end

local function isOver()
  if left <= spare then exhausted = true end
  return exhausted or (started ~= nil and now() >= started + ramp + window)
end

-- Milliseconds to wait before the next request: for ever, when it is over.
function delay()
  started = started or now()
  if isOver() then return 1000000 end
  if rate == 0 then return 0 end
  -- Calls are due at even steps, whichever connection makes them.
  due = (due or now()) + 1 / rate
  return math.max(0, math.floor((due - now()) * 1000))
end

function request()
  sent, left = sent + 1, left - 1
  wrk.headers[header] = lines()
  return wrk.format()
end

function response(status)
  local at = now() - started
  if status >= 200 and status < 300 then
    good = good + 1
    if at >= ramp and at < ramp + window then windowGood = windowGood + 1 end
  else
    bad = bad + 1
    badStatus = status
  end
end

function done(summary, latency, requests)
  local totals = { sent = 0, good = 0, bad = 0, windowGood = 0 }
  local anyExhausted, lastBad = false, 0
  for _, thread in ipairs(threads) do
    for name, total in pairs(totals) do totals[name] = total + thread:get(name) end
    anyExhausted = anyExhausted or thread:get('exhausted')
    lastBad = thread:get('badStatus') or lastBad
  end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"sent":%d,"answered":%d,"good":%d,"bad":%d,"lastBadStatus":%d,"socketErrors":%d,"windowGood":%d,"windowSeconds":%f,"p50Ms":%f,"p99Ms":%f,"exhausted":%s}\n',
    totals.sent, totals.good + totals.bad, totals.good, totals.bad, lastBad,
    errors.connect + errors.read + errors.write + errors.timeout,
    totals.windowGood, threads[1]:get('window'),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, tostring(anyExhausted)))
end
