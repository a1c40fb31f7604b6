-- Posts one body for ever. Counts answers only inside the window [warm, warm + seconds) of this thread's own
-- monotonic clock: a window cut out of steady state counts neither the pipeline's filling nor its last,
-- unfinished batch. Latencies are wrk's own, over the whole run.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } instant; int clock_gettime(int clock, instant *now);")

local MONOTONIC = 1
local now = ffi.new("instant")
local threads = {}

local function clock_s()
  ffi.C.clock_gettime(MONOTONIC, now)
  return tonumber(now.s) + tonumber(now.ns) * 1e-9
end

local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "image/jpeg"
file:close()

function setup(thread)
  table.insert(threads, thread)
end

function init()
  good, bad, begin_s, end_s = 0, 0, nil, nil
end

function response(status)
  local at_s = clock_s()
  if not begin_s then
    begin_s = at_s + tonumber(os.getenv("BENCH_WARM_S"))
    end_s = begin_s + tonumber(os.getenv("BENCH_SECONDS"))
  end
  if status ~= 200 then
    bad = bad + 1
  elseif at_s >= begin_s and at_s < end_s then
    good = good + 1
  end
end

function done(summary, latency)
  local total_good, total_bad = 0, 0
  for _, thread in ipairs(threads) do
    total_good = total_good + thread:get("good")
    total_bad = total_bad + thread:get("bad")
  end
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"answers": %d, "requests": %d, "non_200": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    total_good, summary.requests, total_bad, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
