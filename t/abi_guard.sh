#!/usr/bin/env bash
# The ABI guard: a module built for another layout of nginx's structures must fail `nginx -t` with
# a message, not crash on the first request.
#
# Builds the module a second time against headers patched the way a security backport did it (one
# pointer more in ngx_http_request_t, same version, same build options), and lets the unpatched nginx
# load it.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}" "${NGINX_BUILD_DIR:?set by make}"
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
work=$PWD/target/abi-guard
mkdir -p "$work"
rm -rf "$work/nginx-src"
cp -a "$NGINX_SOURCE_DIR" "$work/nginx-src"
sed -i 's/^    ngx_http_headers_in_t  *headers_in;/    void  *one_more;\n&/' \
  "$work/nginx-src/src/http/ngx_http_request.h"
grep -q one_more "$work/nginx-src/src/http/ngx_http_request.h"

# The build directory names itself, and may name the sources it was configured from.
rm -rf "$work/nginx-objs"
cp -a "$NGINX_BUILD_DIR" "$work/nginx-objs"
sed -i -e "s#-I [^ ]*$(basename "$NGINX_BUILD_DIR") #-I $work/nginx-objs #" \
  -e "s#$NGINX_SOURCE_DIR#$work/nginx-src#g" "$work/nginx-objs/Makefile"

NGINX_SOURCE_DIR=$work/nginx-src NGINX_BUILD_DIR=$work/nginx-objs \
  cargo build --quiet --locked --lib -p ngx-http-px-module --target-dir "$work/target"

mkdir -p "$work/prefix/logs"
cat > "$work/prefix/nginx.conf" <<CONF
load_module $work/target/debug/libngx_http_px_module.so;
pid nginx.pid;
error_log stderr;
events {}
http { client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s; }
CONF

failed=0
check() { # name, whether the text matches
  if [ "$2" = 0 ]; then echo "ok: $1"; else echo "FAILED: $1"; failed=$((failed + 1)); fi
}
rc=0
text=$("$nginx" -t -p "$work/prefix" -c "$work/prefix/nginx.conf" 2>&1) || rc=$?
echo "$text"
check "nginx -t refuses the module" "$([ $rc -eq 1 ]; echo $?)"
check "the message names a probe and both offsets" \
  "$(grep -qE '\[emerg\].*different nginx layout \(\$?[a-z_" ]+ at [0-9]+, nginx has [0-9]+' <<<"$text"; echo $?)"
check "the message says what to do" "$(grep -q 'rebuild it against the sources of the running package' <<<"$text"; echo $?)"
echo "$((3 - failed)) passed, $failed failed"
exit $((failed != 0))
