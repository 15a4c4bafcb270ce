#!/usr/bin/env bash
# Makes a video with its table of frames beside it: make-demo-video.sh OUTPUT [REPO-CLI]
# A zoom into the Mandelbrot set with a frame counter, 10 s of 720p.
set -euo pipefail

output=$1
repo_cli=${2:-repo-cli}
source=$output.source.mkv
ffmpeg -nostdin -v error -y \
    -f lavfi -i "mandelbrot=size=1280x720:rate=25:maxiter=500:end_scale=0.02:end_pts=250" \
    -f lavfi -i "testsrc2=size=320x180:rate=25" \
    -filter_complex "[1]crop=98:30:3:3,scale=294:90:flags=neighbor[counter];[0][counter]overlay=32:32,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p" \
    -t 10 -c:v ffv1 \
    -color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv "$source"
"$repo_cli" convert --input "$source" --output "$output" --extract-offsets
rm -f "$source"
