#!/bin/sh
# Start the demo model server and penstock on loopback, stream one answer, keep serving until Ctrl-C.
set -eu

penstock=$1
here=$(dirname "$0")
logs=$(mktemp -d)
demo='' proxy=''

stop() {
    trap - EXIT INT TERM
    kill $proxy $demo 2>/dev/null || true
    wait
    rm -rf "$logs"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Wait until a program has said that it listens; show its own words if it ends instead.
await() {
    until grep -qs "$3" "$logs/$1"; do
        kill -0 "$2" 2>/dev/null || { cat "$logs/$1"; exit 1; }
        sleep 0.1
    done
}

PYTHONUNBUFFERED=1 "$penstock" demo >"$logs/demo" 2>&1 &
demo=$!
await demo $demo 'http://'
"$penstock" serve --config "$here/demo.jsonc" >"$logs/penstock" 2>&1 &
proxy=$!
await penstock $proxy '"listening"'

echo 'penstock serves on http://127.0.0.1:8080 (operators: http://127.0.0.1:9090), the demo model on http://127.0.0.1:8081.'
echo
echo '$ penstock ask "Why is the sky blue?"'
"$penstock" ask "Why is the sky blue?"
cat <<'EOF'

Go on with:

  curl -N http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
    -d '{"model": "demo/echo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'

  curl -N http://127.0.0.1:8080/generate_stream -H 'content-type: application/json' \
    -d '{"inputs": "Hello [[fail]]"}'       # a failure in mid-stream, as TGI tells it

  curl http://127.0.0.1:8080/v1/models
  curl http://127.0.0.1:9090/status
  curl http://127.0.0.1:9090/metrics

Ctrl-C ends both.
EOF
wait "$proxy"
