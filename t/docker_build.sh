#!/usr/bin/env bash
# What the Dockerfile runs to build the module, without Docker: with this machine's nginx, and the sources that
# the module is built from elsewhere in place of those of nginx.org.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${NGINX_SOURCE_DIR:?set by make}"
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
work=$PWD/target/docker-test
rm -rf "$work"
mkdir -p "$work"
tar -C "$(dirname "$NGINX_SOURCE_DIR")" -czf "$work/nginx.tar.gz" "$(basename "$NGINX_SOURCE_DIR")"
failed=0
passed=0
check() { # NAME COMMAND…
  local name=$1
  shift
  if "$@" >"$work/said" 2>&1; then
    echo "ok: $name"
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    sed 's/^/    /' "$work/said"
    failed=$((failed + 1))
  fi
}
build() { CARGO_TARGET_DIR=$PWD/target/docker packaging/docker/build-module "$work/out" "$work/nginx.tar.gz"; }

check "sources with another checksum are refused" bash -c "! NGINX_SHA256=$(printf '%064d' 0) packaging/docker/build-module $work/out $work/nginx.tar.gz"
check "and nothing is built" test ! -e "$work/out"
check "the module is built, and nginx -t accepts it" build
check "it is where the image's nginx looks" ls "$work/out/usr/lib/nginx/modules/ngx_http_px_module.so"
check "samples go with it" ls "$work/out/usr/share/doc/ngx_http_px_module/nginx/px.conf"
mkdir "$work/logs"
printf 'load_module %s;\npid nginx.pid;\nevents {}\nhttp { px_app_id PXabcd1234; }\n' \
  "$work/out/usr/lib/nginx/modules/ngx_http_px_module.so" >"$work/nginx.conf"
check "nginx loads it from there" "$nginx" -t -q -e stderr -p "$work" -c nginx.conf
check "the Dockerfile runs this script" grep -q '/usr/src/px/packaging/docker/build-module /out' packaging/docker/Dockerfile
echo "$passed passed, $failed failed"
exit $((failed != 0))
