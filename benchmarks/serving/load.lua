-- Posts one body for ever. Looks at answers only inside the window [warm, warm + seconds) of this thread's own
-- monotonic clock: a window cut out of steady state has neither the pipeline's filling nor its end. Their pace is the
-- slope of the straight line through (time, number of answers so far): answers that come in batches are seldom a whole
-- number of batches in a window, and divided by its length they would be wrong by up to half a batch at each end.
-- Where they fill less than half of the window a slope means nothing, and their number is divided by its length.
-- Latencies are wrk's own, over the whole run.
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
  sum_s, sum_s2, sum_n, sum_sn, first_s, last_s = 0, 0, 0, 0, nil, 0
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
    local since_s = at_s - begin_s
    good = good + 1
    first_s, last_s = first_s or since_s, since_s
    sum_s, sum_s2 = sum_s + since_s, sum_s2 + since_s * since_s
    sum_n, sum_sn = sum_n + good, sum_sn + since_s * good
  end
end

function done(summary, latency)
  local per_s, total_bad, window_s = 0, 0, tonumber(os.getenv("BENCH_SECONDS"))
  for _, thread in ipairs(threads) do
    local count, mean_s = thread:get("good"), thread:get("sum_s") / thread:get("good")
    if thread:get("last_s") - (thread:get("first_s") or 0) < window_s / 2 then
      per_s = per_s + count / window_s
    else
      local spread = thread:get("sum_s2") - count * mean_s * mean_s
      per_s = per_s + (thread:get("sum_sn") - mean_s * thread:get("sum_n")) / spread
    end
    total_bad = total_bad + thread:get("bad")
  end
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"answers_per_s": %.6f, "requests": %d, "non_200": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    per_s, summary.requests, total_bad, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
