#!/usr/bin/env bash
# The init step of docker-compose.yml: puts a sample video into the bucket that S3_* name, and asks
# the SERVER for frames of it.
set -euo pipefail

video=demo.h265
work=$(mktemp -d)
make-demo-video.sh "$work/$video"
# curl signs the content only if it is told its hash.
hash=$(sha256sum "$work/$video" | cut -d ' ' -f 1)
curl --fail --silent --show-error --retry 5 --retry-connrefused \
    --aws-sigv4 "aws:amz:$S3_REGION:s3" --user "$S3_ACCESS_KEY:$S3_SECRET_KEY" \
    --header "x-amz-content-sha256: $hash" \
    --upload-file "$work/$video" "$S3_ENDPOINT/$S3_BUCKET/$video"
echo "== in the bucket: $video"
for pattern in sequential random; do
    echo "== frames of $video, $pattern order"
    streaming-cli --url "$SERVER" --video "$video" --frames-file "$work/$video.offsets.json" \
        --pattern "$pattern" --limit 250
done
echo "== the server goes on serving; ask it for $video"
