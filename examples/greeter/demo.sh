#!/usr/bin/env bash
# Builds and runs the greeter, sends it real requests, kills it with -9 amid them, and goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cargo build --quiet -p greeter
binary=${CARGO_TARGET_DIR:-$PWD/target}/debug/greeter
work=$(mktemp -d)
cp "$here/module.yaml" "$work/"
cd "$work"
export STATEFUN_READY_FILE=$work/ready STATEFUN_LOG=warn
application=
trap '[ -z "$application" ] || kill "$application" 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT

start() {
    rm -f ready
    "$binary" &
    application=$!
    for _ in $(seq 200); do
        [ -s ready ] && return
        kill -0 "$application" 2>/dev/null || { echo 'the greeter did not start; its message is above' >&2; exit 1; }
        sleep 0.05
    done
    echo 'the greeter was not ready after 10 s' >&2
    exit 1
}

greet() {
    printf '  %s -> ' "$2"
    curl --silent --show-error --retry 5 --retry-connrefused -X POST 'http://127.0.0.1:8080/greet?wait=5s' \
        -H 'Content-Type: application/json' -H "Idempotency-Key: $1" \
        -d "{\"user_id\":\"$2\",\"first_name\":\"${2^}\"}"
    echo
}

start
echo
echo 'Requests, each answered when its epoch is durable:'
greet 1 bob
greet 2 ann
greet 3 bob
echo
echo 'Killed with -9, and started again:'
kill -9 "$application"
wait "$application" 2>/dev/null || true
start
greet 3 bob
echo '  (the retry of a request: the same answer, counted once)'
greet 4 bob
greet 5 ann
echo
echo 'The e-mails, each exactly once:'
sleep 0.3
sed 's/^/  /' emails.jsonl
