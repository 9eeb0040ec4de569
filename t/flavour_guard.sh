#!/usr/bin/env bash
# The ABI guard's other half: OpenResty patches bits that no probe reaches, so a module for plain nginx
# must be refused by OpenResty, and the other way round.
#
# What tells them apart is a name that OpenResty's binary exports and the version in its headers. So the
# one is stood in for by preloading that name into plain nginx, the other by building the module with
# that version. Given OpenResty's sources and binary, it is the other way round.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}"
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
own=$PWD/target/debug/libngx_http_px_module.so
work=$PWD/target/flavour-guard
mkdir -p "$work/prefix/logs"

# The same headers under the other name.
rm -rf "$work/nginx-src" "$work/nginx-objs"
cp -a "$NGINX_SOURCE_DIR" "$work/nginx-src"
nginx/configure-like "$nginx" "$work/nginx-src" "$work/nginx-objs"
header=$work/nginx-src/src/core/nginx.h
if grep -q '^#define NGINX_VER .*"openresty/' "$header"; then
  is=OpenResty other="plain nginx" from=openresty to=nginx
else
  is="plain nginx" other=OpenResty from=nginx to=openresty
fi
sed -i "s#^\(\#define NGINX_VER  *\)\"$from/#\1\"$to/#" "$header"
grep -q "^#define NGINX_VER .*\"$to/" "$header"
NGINX_SOURCE_DIR=$work/nginx-src NGINX_BUILD_DIR=$work/nginx-objs \
  cargo build --quiet --locked --lib -p ngx-http-px-module --target-dir target/abi-guard/target
cp target/abi-guard/target/debug/libngx_http_px_module.so "$work/other.so"

# As nginx would export it.
echo 'unsigned long ngx_is_privileged_agent;' | cc -shared -fPIC -x c - -o "$work/exports.so"

passed=0 failed=0
check() { # name, whether it is so; what was said is shown where it is not
  if [ "$2" = 0 ]; then echo "ok: $1"; passed=$((passed + 1)); else echo "FAILED: $1: $text"; failed=$((failed + 1)); fi
}
load() { # module, library to preload
  cat > "$work/prefix/nginx.conf" <<CONF
load_module $1;
pid nginx.pid;
error_log stderr;
events {}
http { client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s; }
CONF
  rc=0
  text=$(LD_PRELOAD=$2 "$nginx" -t -p "$work/prefix" -c "$work/prefix/nginx.conf" 2>&1) || rc=$?
}
refused() { # flavour of the module, of the host
  [ $rc -eq 1 ] && grep -q "\[emerg\].* px: this module was built for $1/[0-9.]*.*, but this is $2: rebuild it against the sources" <<<"$text"
}

load "$own" ""
check "$is takes the module that was built for it" "$([ $rc -eq 0 ]; echo $?)"
load "$work/other.so" ""
check "$is refuses a module for $other" "$(refused $to "$is"; echo $?)"
if [ "$is" != OpenResty ]; then
  load "$own" "$work/exports.so"
  check "OpenResty refuses a module for plain nginx" "$(refused nginx OpenResty; echo $?)"
  load "$work/other.so" "$work/exports.so"
  check "OpenResty takes a module that was built for it" "$([ $rc -eq 0 ]; echo $?)"
fi
echo "$passed passed, $failed failed"
exit $((failed != 0))
