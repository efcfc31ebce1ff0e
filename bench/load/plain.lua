-- The same request over and over: wrk's own fast path, nothing but the totals told.
function init(args)
  if args[1] then
    wrk.method = 'POST'
    wrk.body = args[1]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"sent":%d,"answered":%d,"good":%d,"bad":%d,"socketErrors":%d,"windowGood":%d,"windowSeconds":%f,"p50Ms":%f,"p99Ms":%f,"exhausted":false}\n',
    summary.requests, summary.requests, summary.requests - errors.status, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    summary.requests - errors.status, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
