#!/usr/bin/env bash
# Is the module at work in this Kong? Visits the routes of kong.yml as a browser, as a bad bot, as a gRPC client and with an
# upload, reads the counters, reloads and looks again. Changes nothing but that. Needs curl.
#
#     PROXY=http://127.0.0.1:8000   Kong's proxy
#     GRPC=http://127.0.0.1:9080    the same with HTTP/2 without TLS; empty: gRPC is left out
#     STATUS=http://127.0.0.1:8100  Kong's status listener; empty: no counters
#     APP_ID=PXabcd1234             the application; empty: first party is left out
#     RELOAD='docker compose exec -T kong kong reload'   empty: no reload
#
# The bot is blocked although the module only monitors: px_bypass_monitor_header asks for it.
set -euo pipefail

PROXY=${PROXY-http://127.0.0.1:8000}
GRPC=${GRPC-http://127.0.0.1:9080}
STATUS=${STATUS-http://127.0.0.1:8100}
APP_ID=${APP_ID-PXabcd1234}
RELOAD=${RELOAD-docker compose exec -T kong kong reload}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
failures=0

# visit WHAT STATUS TEXT CURL-ARGUMENTS...: the status that is expected, and a text in the answer.
visit() {
    local what=$1 expected=$2 text=$3 status
    shift 3
    status=$(curl -sS -m 15 -i -o "$answer" -w '%{http_code}' "$@") || status="no answer ($?)"
    if [[ $status == "$expected" ]] && grep -aqi -e "$text" "$answer"; then
        printf 'ok      %s\n' "$what"
    else
        printf 'FAILED  %s: %s where %s with "%s" was expected\n' "$what" "$status" "$expected" "$text"
        failures=$((failures + 1))
    fi
}

browser=(-A 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36')
bot=(-A PhantomJS/1.0 -H 'x-px-block: 1')

all() {
    visit "$1 a page" 200 site "${browser[@]}" "$PROXY/"
    visit "$1 a bad bot is blocked" 403 _pxUuid "${bot[@]}" "$PROXY/"
    visit "$1 a bad bot that takes JSON" 403 '"appId"' "${bot[@]}" -H 'Accept: application/json' "$PROXY/"
    visit "$1 an upload that streams" 200 site "${browser[@]}" --data-binary @"$0" "$PROXY/upload"
    visit "$1 an upload of a bad bot" 403 _pxUuid "${bot[@]}" --data-binary @"$0" "$PROXY/upload"
    if [[ -n $GRPC ]]; then
        local call=(--http2-prior-knowledge -H 'Content-Type: application/grpc' -H 'TE: trailers'
            --data-binary '' "$GRPC/shop.Catalogue/List")
        visit "$1 a gRPC call" 200 '^grpc-status: 0' "${browser[@]}" "${call[@]}"
        visit "$1 a gRPC call of a bad bot" 403 _pxUuid "${bot[@]}" "${call[@]}"
    fi
    if [[ -n $APP_ID ]]; then
        visit "$1 first party, without a route" 200 javascript "${browser[@]}" "$PROXY/${APP_ID#PX}/init.js"
    fi
    if [[ -n $STATUS ]]; then
        visit "$1 the counters" 200 'px_requests_total{.*verdict="block"' "$STATUS/px/metrics"
    fi
}

all "at first:"
if [[ -n $RELOAD ]]; then
    # A command with its arguments.
    read -ra reload <<<"$RELOAD"
    "${reload[@]}"
    all "after a reload:"
fi
if ((failures)); then
    printf '%d failed\n' "$failures"
    exit 1
fi
echo "all fine"
