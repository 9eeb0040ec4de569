-- wrk script: sends the requests of a list in turn, and says at the end what it saw.
--
-- usage: wrk … -s load.lua URL -- REQUESTS THINK_MS
--
-- REQUESTS is a Lua file that returns a list of whole requests. With THINK_MS above 0 every
-- connection waits for about so long before its next request, so that the load is a rate that
-- does not depend on how fast the answers come, up to what the server can do.

local requests
local at = 0

function init(args)
   requests = assert(dofile(args[1]))
   local think = tonumber(args[2]) or 0
   math.randomseed(1)
   if think > 0 then
      -- Spread around the mean, lest the connections march in step.
      function delay()
         return math.random(math.ceil(think / 2), math.floor(think * 3 / 2))
      end
   end
end

function request()
   at = at % #requests + 1
   return requests[at]
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "microseconds": %d, "other_statuses": %d, "socket_errors": %d, ' ..
      '"p50": %d, "p99": %d}\n',
      summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(50), latency:percentile(99)))
end
