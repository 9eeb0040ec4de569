#!/usr/bin/env bash
# `make install` and `make uninstall`, into a directory: the files, and that nginx loads the module from there.
#
# usage: t/install.sh MODULE.so
set -euo pipefail
cd "$(dirname "$0")/.."

module=$1
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
work=$PWD/target/install-test
rm -rf "$work"
mkdir -p "$work/logs"
failed=0
passed=0
check() { # NAME COMMAND…
  local name=$1
  shift
  if "$@" >"$work/out" 2>&1; then
    echo "ok: $name"
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    sed 's/^/    /' "$work/out"
    failed=$((failed + 1))
  fi
}
run() { # TARGET VARIABLE=VALUE…: as `make` does it, but with this module and without building it
  make --no-print-directory --old-file=build MODULE="$module" DESTDIR="$work/root" "$@"
}

check "make install" run install
check "the module is where Debian's nginx looks" cmp "$module" "$work/root/usr/lib/nginx/modules/ngx_http_px_module.so"
doc=$work/root/usr/share/doc/ngx_http_px_module
check "documentation and samples are there" ls "$doc"/{README.md,LICENSE,CHANGELOG.md,docs/directives.md,nginx/px.conf,nginx/monitoring/alerts.yml}
check "what only building needs is not" bash -c "! ls $doc/nginx/config*"
check "nothing loads it unasked" bash -c "! find $work/root -name mod-http-px.conf | grep ."
check "all can read it, only scripts are run" bash -c "! find $work/root -type f ! -perm 0644 ! -name '*.sh' | grep ."
check "make uninstall" run uninstall
check "leaves no file" bash -c "! find $work/root -type f | grep ."

other=(MODULESDIR=/opt/px DOCDIR=/opt/px/doc MODULESCONFDIR=/usr/share/nginx/modules)
check "make install elsewhere, with a file that loads the module" run install "${other[@]}"
# Paths in it are those of the system it is for.
sed "s#load_module /#load_module $work/root/#" "$work/root/usr/share/nginx/modules/mod-http-px.conf" >"$work/mod.conf"
check "it names the module by its path" grep -qx "load_module $work/root/opt/px/ngx_http_px_module.so;" "$work/mod.conf"
cat >"$work/nginx.conf" <<CONF
include mod.conf;
pid nginx.pid;
error_log stderr;
events {}
http {
    px_app_id PXabcd1234;
    client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
}
CONF
check "nginx loads it" "$nginx" -t -p "$work" -c nginx.conf
check "make uninstall from there" run uninstall "${other[@]}"
check "leaves no file" bash -c "! find $work/root -type f | grep ."
echo "$passed passed, $failed failed"
exit $((failed != 0))
