-- What stands in for Kong's Lua in the tests: the same phases, and the same ways to hand a request on.
-- `services` has the host and port of each service; `log` is the file that the log phase writes.

local balancer = require "ngx.balancer"

local M = {}
local services, log_file

-- By longest prefix first, as a router would.
local ROUTES = {
  { path = "/shop.Catalogue/", service = "grpc", location = "@grpc" },
  { path = "/upload", service = "site", location = "@unbuffered_request" },
  { path = "/stream", service = "site", location = "@unbuffered" },
  { path = "/events", service = "site", location = "@unbuffered_response" },
  { path = "/buffered", service = "site", capture = true },
  { path = "/down", service = "down" },
  { path = "/site", service = "site" },
  { path = "/", service = "site", exact = true },
}

function M.init(config)
  services, log_file = config.services, config.log
end

local function route_of(path)
  for _, route in ipairs(ROUTES) do
    if path:sub(1, #route.path) == route.path and (not route.exact or path == route.path) then
      return route
    end
  end
end

-- How often each phase has run.
local function count(phase)
  ngx.shared.kong:incr(phase, 1, 0)
end

function M.rewrite()
  count("rewrite")
  local var = ngx.var
  if var.kong_proxy_mode ~= "http" then
    return
  end
  -- As a pre-function plugin may do.
  if var.http_x_partner == "acme" then
    var.is_partner = "1"
  end
end

function M.access()
  count("access")
  local var = ngx.var
  if var.kong_proxy_mode ~= "http" then
    return
  end
  local route = route_of(var.uri)
  if not route then
    ngx.status = 404
    ngx.header["Content-Type"] = "application/json"
    ngx.say('{"message":"no Route matched with those values"}')
    return ngx.exit(404)
  end
  local http = var.http_x_forwarded_for
  var.upstream_x_forwarded_for = http and http .. ", " .. var.realip_remote_addr or var.remote_addr
  var.upstream_host = var.host
  var.upstream_service = route.service
  var.upstream_scheme = route.service == "grpc" and "grpc" or "http"
  var.upstream_uri = var.request_uri
  ngx.req.set_header("X-Seen-Score", var.px_score or "")
  if route.location then
    return ngx.exec(route.location)
  end
  if route.capture then
    ngx.req.read_body()
    local answer = ngx.location.capture("/kong_buffered_http", {
      method = ngx["HTTP_" .. ngx.req.get_method()],
      always_forward_body = true,
      share_all_vars = true,
    })
    ngx.status = answer.status
    ngx.print(answer.body)
    return ngx.exit(answer.status)
  end
end

function M.balancer()
  local service = services[ngx.var.upstream_service]
  assert(balancer.set_current_peer(service[1], service[2]))
end

function M.header_filter()
  count("header_filter")
  ngx.header["X-Kong-Response-Latency"] = "1"
end

function M.body_filter()
  ngx.ctx.length = (ngx.ctx.length or 0) + #ngx.arg[1]
end

function M.handle_error()
  ngx.header["Content-Type"] = "application/json"
  ngx.say('{"message":"from kong_error_handler","verdict":"', ngx.var.px_verdict or "", '"}')
end

function M.log()
  count("log")
  local var = ngx.var
  local line = table.concat({
    ngx.status, var.request_method, var.uri, "mode=" .. (var.kong_proxy_mode or ""),
    "ip=" .. var.remote_addr, "verdict=" .. (var.px_verdict or ""),
    "score=" .. (var.px_score or ""), "length=" .. (ngx.ctx.length or 0),
  }, " ")
  local file = assert(io.open(log_file, "a"))
  file:write(line, "\n")
  file:close()
end

function M.status_content()
  if ngx.var.uri ~= "/phases" then
    return ngx.say("status")
  end
  for _, phase in ipairs({ "rewrite", "access", "header_filter", "log" }) do
    ngx.say(phase, " ", ngx.shared.kong:get(phase) or 0)
  end
end

return M
