#!/usr/bin/env bash
# nginx/configure-like: what is compiled with what it leaves behind has the signature of the nginx it
# asked, and loads there (t/flavour_guard.sh builds this module that way). Other sources and a program
# that is no nginx are refused.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}"
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
work=$PWD/target/configure-like
rm -rf "$work"
mkdir -p "$work/prefix/logs"
cp -a "$NGINX_SOURCE_DIR" "$work/nginx-src"

passed=0 failed=0
check() { # name, whether it is so; what was said is shown where it is not
  if [ "$2" = 0 ]; then echo "ok: $1"; passed=$((passed + 1)); else echo "FAILED: $1: $text"; failed=$((failed + 1)); fi
}
run() {
  rc=0
  text=$("$@" 2>&1) || rc=$?
}

run nginx/configure-like "$nginx" "$work/nginx-src" "$work/nginx-objs"
check "the sources are configured" "$([ $rc -eq 0 ] && [ -f "$work/nginx-objs/ngx_auto_config.h" ]; echo $?)"
# The least module there can be.
cat > "$work/least.c" <<EOF
#include <ngx_config.h>
#include <ngx_core.h>
static ngx_core_module_t context = { ngx_string("least"), NULL, NULL };
ngx_module_t least_module = { NGX_MODULE_V1, &context, NULL, NGX_CORE_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING };
ngx_module_t *ngx_modules[] = { &least_module, NULL };
char *ngx_module_names[] = { "least_module", NULL };
char *ngx_module_order[] = { NULL };
EOF
directories=("-I$work/nginx-objs")
for name in core event event/modules os/unix; do directories+=("-I$work/nginx-src/src/$name"); done
run cc -shared -fPIC "${directories[@]}" "$work/least.c" -o "$work/least.so"
check "a module compiles" $rc
# Sizes of three types and a digit for each option, as nginx compares them.
signature() { grep -aoE '[0-9]+,[0-9]+,[0-9]+,[01]{20,}' "$1" | sort -u; }
text="$(signature "$nginx") and $(signature "$work/least.so")"
check "it has nginx's signature" "$([ -n "$(signature "$nginx")" ] && [ "$(signature "$nginx")" = "$(signature "$work/least.so")" ]; echo $?)"
cat > "$work/prefix/nginx.conf" <<CONF
load_module $work/least.so;
pid nginx.pid;
error_log stderr;
events {}
CONF
run "$nginx" -t -p "$work/prefix" -c "$work/prefix/nginx.conf"
check "nginx loads it" $rc

# One that was built elsewhere, with paths and modules that are not here, and a quoted list of flags.
cat > "$work/elsewhere" <<EOF
#!/bin/sh
$nginx -v
echo "configure arguments: --add-module=../ngx_lua-0.10.28 --with-compat --with-threads" \
  "--with-cc-opt='-O2 -ffile-prefix-map=/build=. -specs=/none/hardened -DPX_SEEN=1'" \
  "--with-ld-opt='-Wl,-rpath,/none -specs=/none/hardened' --with-pcre=../pcre2-10.44 --with-pcre-jit" \
  "--with-pcre-opt='-g -O2' --with-openssl=../openssl-3.2.3 --with-openssl-opt=-g --with-http_ssl_module" \
  "--with-http_geoip_module=dynamic --with-libatomic=../atomic --builddir=/none" >&2
EOF
chmod +x "$work/elsewhere"
run nginx/configure-like "$work/elsewhere" "$work/nginx-src" "$work/elsewhere-objs"
check "what only its builder had is left out" "$([ $rc -eq 0 ] && grep -q 'define NGX_PCRE ' "$work/elsewhere-objs/ngx_auto_config.h" \
  && grep -q 'DPX_SEEN=1' "$work/elsewhere-objs/Makefile" && ! grep -qE 'specs|prefix-map|ngx_lua|openssl-3' "$work/elsewhere-objs/Makefile"; echo $?)"

sed -i 's/^\(#define NGINX_VERSION  *\)".*"/\1"1.1.1"/' "$work/nginx-src/src/core/nginx.h"
run nginx/configure-like "$nginx" "$work/nginx-src" "$work/refused-objs"
check "other sources are refused" "$([ $rc -ne 0 ] && grep -q 'holds the sources of .*/1.1.1$' <<<"$text" && [ ! -e "$work/refused-objs" ]; echo $?)"
run nginx/configure-like /bin/true "$work/nginx-src" "$work/refused-objs"
check "a program that is no nginx is refused" "$([ $rc -ne 0 ] && grep -q 'tells no version' <<<"$text"; echo $?)"
echo "$passed passed, $failed failed"
exit $((failed != 0))
