#!/usr/bin/env bash
# The module must need nothing but nginx's core, libc, libgcc_s and libm (DECISIONS 24): some hosts are
# built without threads, and some link their own TLS library, whose symbols must not mix with another.
#
# usage: t/symbols.sh MODULE.so
set -euo pipefail

module=$1
nginx=${TEST_NGINX_BINARY:-/usr/sbin/nginx}
failed=0

missing=$(comm -23 \
  <(nm -D --undefined-only "$module" | awk '$1 == "U" { print $2 }' | grep -vE '@(GLIBC|GCC)_' | sort -u) \
  <(nm -D --defined-only "$nginx" | awk '{ print $3 }' | sort -u))
if [ -z "$missing" ]; then
  echo "ok: every undefined symbol is nginx's or the C library's"
else
  echo "FAILED: undefined symbols that nginx does not export:" $missing
  failed=$((failed + 1))
fi

optional=$(nm -D --undefined-only "$module" | awk '{ print $2 }' | grep -E '^(ngx_thread|ngx_ssl|SSL_|EVP_|pcre)' || true)
if [ -z "$optional" ]; then
  echo "ok: nothing of threads, TLS or PCRE, which a host may lack"
else
  echo "FAILED: symbols that some hosts lack:" $optional
  failed=$((failed + 1))
fi

libraries=$(objdump -p "$module" | awk '$1 == "NEEDED" { print $2 }' | grep -vE '^(libc|libgcc_s|libm|ld-linux.*)\.so' || true)
if [ -z "$libraries" ]; then
  echo "ok: no library but libc, libgcc_s and libm"
else
  echo "FAILED: further libraries:" $libraries
  failed=$((failed + 1))
fi
echo "$((3 - failed)) passed, $failed failed"
exit $((failed != 0))
