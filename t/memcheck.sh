#!/usr/bin/env bash
# Runs behaviour tests with nginx under valgrind: t/memcheck.sh [TEST...]; fails on any error that it
# finds. Without names, those in which memory of requests is lent and borrowed most.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- bodies credentials graphql node_async user_identifiers
nginx=${TEST_NGINX_BINARY:-$(command -v nginx || echo /usr/sbin/nginx)}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cat > "$logs/nginx" <<EOF
#!/bin/sh
exec valgrind --quiet --leak-check=no --num-callers=30 --log-file=$logs/%p.log $nginx "\$@"
EOF
chmod +x "$logs/nginx"
# Workers run as another user and write logs of their own.
chmod 0777 "$logs"
tests=()
for name in "$@"; do tests+=(--test "$name"); done
TEST_NGINX_BINARY=$logs/nginx cargo test --locked -p ngx-http-px-module "${tests[@]}" -- --test-threads=2
checked=$(find "$logs" -name '*.log' | wc -l)
[ "$checked" -gt 0 ] || { echo "memcheck: valgrind wrote no log" >&2; exit 1; }
if cat "$logs"/*.log | grep -q '^=='; then
  cat "$logs"/*.log >&2
  echo "memcheck: valgrind found errors" >&2
  exit 1
fi
echo "memcheck: $checked processes of nginx, no error found"
