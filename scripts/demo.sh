#!/usr/bin/env bash
# A video, a server, a hundred frames of it. Variables: PORT (3000; another is taken where it is
# busy) and KEEP_SERVING (1; 0 ends after the figures; 0 where CI is set).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

keep_serving=${KEEP_SERVING:-$([ -n "${CI:-}" ] && echo 0 || echo 1)}
port=${PORT:-3000}
programs=$target/release
out=data/out
mkdir -p "$out"

say "building (the first time takes some minutes)"
cargo build --release --locked -p bucket-streamer -p repo-cli -p streaming-cli

# A video that is there, else one of our own making.
video=
for file in data/*.h265 data/*.hevc data/*.265 data/*.mp4 data/*.mov; do
    [ -f "$file" ] && video=$file && break
done
if [ -z "$video" ]; then
    video=data/demo.h265
    say "making a demo video: a zoom into the Mandelbrot set with a frame counter, 10 s of 720p"
    bash scripts/make-demo-video.sh "$video" "$programs/repo-cli"
fi
offsets=$video.offsets.json
[ -f "$offsets" ] || "$programs/repo-cli" offsets "$video"

# Asks for a path with nothing but bash, and prints the whole answer.
get() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
    cat <&3
    exec 3>&-
}
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    say "port $port is busy: taking another"
    port=0
fi

log=$out/server.log
server=
stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
}
trap stop EXIT
trap 'exit 0' INT TERM
"$programs/bucket-streamer" --listen-addr "127.0.0.1:$port" --local-path ./data >"$log" 2>&1 &
server=$!

# The server tells its address in a line of its own.
address=
until [ -n "$address" ]; do
    kill -0 "$server" 2>/dev/null || die "the server ended: $(cat "$log")"
    address=$(sed -n 's/.*listening on http:\/\/\([0-9.]*:[0-9]*\).*/\1/p' "$log" | tail -n 1)
    [ -n "$address" ] || sleep 0.1
done
[[ $(get "${address##*:}" /health) == *ok* ]] || die "the server is not healthy: $(cat "$log")"
say "serving data/ on http://$address"

for pattern in sequential random; do
    say "frames of $video, $pattern order"
    "$programs/streaming-cli" --url "ws://$address/ws" --video "$video" \
        --frames-file "$offsets" --pattern "$pattern" --limit 250 --output "$out/frames"
done
say "JPEG files: $root/$out/frames"

if [ "$keep_serving" = 0 ]; then
    exit 0
fi
say "still serving: open http://$address in a browser (WebSocket at ws://$address/ws); Ctrl-C ends it"
wait "$server"
