#!/usr/bin/env bash
# Beside another module that defines directives of ours, as the vendor's closed module does, `nginx -t` fails
# with a message, whichever is loaded first (DECISIONS 26): whose setter nginx calls would be a matter of order,
# and a site would believe itself protected.
#
# usage: t/rival.sh MODULE.so
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}" "${NGINX_BUILD_DIR:?set by make}"
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
module=$(realpath "$1")
work=$PWD/target/rival
rm -rf "$work"
mkdir -p "$work/logs"
(cd "$NGINX_SOURCE_DIR" && cc -shared -fPIC -O1 -I src/core -I src/event -I src/event/modules -I src/os/unix \
  -I src/http -I src/http/modules -I src/http/v2 -I "$NGINX_BUILD_DIR" -o "$work/rival.so" "$OLDPWD/t/abi/rival.c")

failed=0
passed=0
load() { # MODULES: what nginx says, and whether it accepts them
  { for one in "$@"; do echo "load_module $one;"; done
    echo "pid nginx.pid; error_log stderr; events {} http { px_app_id PXabcd1234;"
    echo "client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s; }"
  } >"$work/nginx.conf"
  rc=0
  said=$("$nginx" -t -p "$work" -c "$work/nginx.conf" 2>&1) || rc=$?
}
check() { # NAME STATUS TEXT
  if [ "$rc" = "$2" ] && grep -qF "$3" <<<"$said"; then echo "ok: $1"; passed=$((passed + 1))
  else echo "FAILED: $1: $said"; failed=$((failed + 1)); fi
}

refused='px: the module "ngx_http_rival_module" defines "px_app_id" too: load one of the two only'
load "$work/rival.so"
check "nginx takes the other module alone" 0 "test is successful"
load "$module"
check "and this one" 0 "test is successful"
load "$work/rival.so" "$module"
check "but not both" 1 "$refused"
load "$module" "$work/rival.so"
check "in whatever order" 1 "$refused"
echo "$passed passed, $failed failed"
exit $((failed != 0))
