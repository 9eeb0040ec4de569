#!/usr/bin/env bash
# The ABI guard: where nginx's structures are laid out otherwise than the module was built for, `nginx -t`
# fails with a message, instead of a worker crashing on the first request.
#
# The host is nginx 1.22.1 with one field more in ngx_http_headers_in_t, as a security backport of 2026 had
# it: same version, same options. The module, and a module without a guard beside it, are those for Debian's
# nginx 1.22.1.
#
# usage: t/abi_guard.sh MODULE.so
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}" "${NGINX_BUILD_DIR:?set by make}"
module=$(realpath "$1")
grep -q '"1.22.1"' "$NGINX_SOURCE_DIR/src/core/nginx.h" || {
  echo "skipped: the module is built for another nginx than 1.22.1 of Debian 12"
  exit 0
}
host=$(t/host patched)/nginx
work=$PWD/target/abi-guard
rm -rf "$work"
mkdir -p "$work/logs"

# Compiled with the same headers as the module.
(cd "$NGINX_SOURCE_DIR" && gcc -shared -fPIC -O1 -I src/core -I src/event -I src/event/modules -I src/os/unix \
  -I src/http -I src/http/modules -I src/http/v2 -I "$NGINX_BUILD_DIR" -o "$work/unguarded.so" "$OLDPWD/t/abi/unguarded.c")

failed=0
passed=0
check() { # NAME COMMAND…
  local name=$1
  shift
  if "$@"; then echo "ok: $name"; passed=$((passed + 1)); else echo "FAILED: $name"; failed=$((failed + 1)); fi
}
conf() { # MODULE: a configuration that loads it
  cat >"$work/nginx.conf" <<CONF
load_module $1;
daemon off;
pid nginx.pid;
error_log error.log notice;
events {}
http {
    access_log off;
    client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen unix:$work/socket; return 204; location / { root html; } }
}
CONF
}
nginx() { "$host" -p "$work" -c nginx.conf "$@" 2>&1; }
request() { curl -s -m 5 -o "$work/body" -w '%{http_code}' --unix-socket "$work/socket" http://host/ || true; }

# serve MODULE: the status of one request, while nginx runs with it.
serve() {
  conf "$1"
  sed -i 's/return 204; //' "$work/nginx.conf"
  rm -f "$work/error.log" "$work/socket" "$work/nginx.pid"
  "$host" -p "$work" -c nginx.conf >"$work/said" 2>&1 &
  local pid=$!
  for _ in $(seq 200); do [ -S "$work/socket" ] && [ -s "$work/nginx.pid" ] && break; sleep 0.05; done
  status=$(request)
  kill -QUIT "$pid"
  wait "$pid" || true
}

echo "host: $("$host" -v 2>&1), one field more in ngx_http_headers_in_t"
conf "$work/unguarded.so"
check "nginx itself finds nothing wrong with a module for the other layout" nginx -t -q
serve "$work/unguarded.so"
check "which then crashes the worker on the first request" grep -q 'exited on signal' "$work/error.log"
check "and the visitor gets no answer" test "$status" = 000

conf "$module"
rc=0
said=$(nginx -t) || rc=$?
echo "$said"
check "nginx -t refuses this module" test $rc -eq 1
check "the message names a probe and both offsets" \
  grep -qE '\[emerg\].*different nginx layout \(\$?[a-z_" ]+ at [0-9]+, nginx has [0-9]+' <<<"$said"
check "the message says what to do" grep -q 'rebuild it against the sources of the running package' <<<"$said"
check "nothing crashed" bash -c "! grep -q signal <<<'$said'"
echo "$passed passed, $failed failed"
exit $((failed != 0))
