#!/usr/bin/env python3
"""Measures GOP structures of x265: how many access units one frame costs, at what file size.

Every structure encodes every clip at several CRFs. For each encode the file's size, x265's own
global PSNR and mean SSIM, and the mean reference closure (crates/media/examples/closures.rs) are
kept in a CSV file. The report gives, for each structure and clip, the mean closure and the
Bjontegaard delta rate: by how many percent the file is larger than with x265's own defaults at
equal PSNR and at equal SSIM.

    measure-seek.py --closures PROGRAM --csv OUT.csv [--structures FILE]     encode, then report
    measure-seek.py --report OUT.csv                                         report only

A structure is a line `name key=value...`:
    gop=SECONDS      a closed GOP of that length
    anchors=N        P pictures in a GOP, after its IDR picture (gives the length of the B-runs)
    bframes=N        length of the B-runs instead
    anything else    is passed to x265 (underscores become hyphens)
A structure with no `gop` is left as x265 has it. The structure `default` is what the others are
held against. Needs Python 3.9 and an ffmpeg with libx265 and libx264; nothing else.
"""

import argparse
import csv
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

X265_MAX_BFRAMES = 16

# The three profiles of `repo-cli convert --seek`, and what they are held against.
PROFILES = """
default
fast gop=2 anchors=3 b_adapt=0 b_pyramid=0 ref=3 rc_lookahead=40
balanced gop=3.5 anchors=5 b_adapt=0 b_pyramid=1 ref=1 rc_lookahead=40
small gop=5 bframes=8 b_adapt=2 b_pyramid=1 ref=3 rc_lookahead=40
"""

CAMERA = "camera"
REENCODED = "re-encoded"
MADE = "made"

# A texture with detail at several sizes, 2560x1440, one picture.
TEXTURE = (
    "nullsrc=s=640x360:r={r},trim=end_frame=1,"
    "geq=lum='128+40*sin(X/23)*cos(Y/17)+60*(random(1)-0.5)':cb=118+X/64:cr=132-Y/48,"
    "gblur=sigma=1.2,scale=2560:1440:flags=bicubic,noise=alls=14:all_seed=7,gblur=sigma=0.9"
)


def clips(height):
    """name, kind, pictures per second, inputs, filter graph that ends in [v]."""
    width = {360: 640, 540: 960, 720: 1280, 1080: 1920}[height]
    size = f"{width}:{height}"
    fit = f"scale=-2:'min(ih,{height})':flags=lanczos,format=yuv420p"

    def camera(name, kind, rate, file, there_and_back=True, more=""):
        graph = f"[0:v:0]{fit}"
        if there_and_back:
            graph += ",split[a][b];[b]reverse[c];[a][c]concat=n=2,loop=loop=-1:size=32000"
        graph += more
        return (name, kind, rate, [file], graph)

    def pan(rate):
        slow = 30.0 / rate
        return (
            f"scale=3840:2160,loop=loop=-1:size=1,"
            f"crop=2560:1440:x='640+600*sin(n*{0.011 * slow:.6f})'"
            f":y='360+330*sin(n*{0.017 * slow:.6f})',scale={size}:flags=bicubic,"
            f"noise=c0s=5:c0f=t:all_seed=3,format=yuv420p"
        )

    def drone(rate):
        return (
            f"drone{rate}",
            CAMERA,
            rate,
            ["androidx__8k24fps_300ms.mp4"],
            "[0:v:0]trim=end_frame=1," + pan(rate),
        )

    def traffic(rate):
        still = TEXTURE.format(r=rate)
        graph = f"{still},loop=loop=-1:size=1,scale={size}[s]"
        last = "s"
        for i, (w, h, speed, y, colour) in enumerate(
            [(80, 44, 170, 0.62, "0xa02020"), (64, 36, -230, 0.5, "0xd0d0c8"),
             (30, 60, 40, 0.35, "0x203050")]
        ):
            w, h = w * width // 1280 // 2 * 2, h * height // 720 // 2 * 2
            speed = speed * width / 1280
            graph += (
                f";color={colour}:s={w}x{h}:r={rate}[m{i}];"
                f"[{last}][m{i}]overlay=shortest=0:x='mod({speed}*t+20000,W+{w})-{w}':y={y}*H[o{i}]"
            )
            last = f"o{i}"
        graph += f";[{last}]noise=c0s=5:c0f=t:all_seed=5,format=yuv420p"
        return (f"static{rate}", MADE, rate, [], graph)

    def texture_pan(rate):
        return (f"pan{rate}", MADE, rate, [], TEXTURE.format(r=rate) + "," + pan(rate))

    result = [
        camera("phone-a", CAMERA, 30, "androidx__pixel-motion-photo-2-hevc-tracks.mp4"),
        camera("phone-b", CAMERA, 30, "androidx__sample_edit_list.mp4"),
        camera("bird", CAMERA, 30, "bigcat88__bird_burst.heic"),
        camera("portrait", REENCODED, 30, "shaka-project__hls-ts-muxed-aac-h265.ts"),
        camera("people", REENCODED, 30, "Vanilagy__video-h265.mp4", False),
        camera("cartoon", REENCODED, 24, "privaloops__bbb1080_50f.265"),
        camera("grain", REENCODED, 24, "privaloops__bbb1080_50f.265",
               more=",noise=c0s=14:c0f=t:all_seed=9"),
        drone(30),
        drone(60),
        traffic(24),
        traffic(60),
        texture_pan(60),
        ("screen", MADE, 30, [],
         f"cellauto=s={width // 2}x1440:rule=110:rate=30:scroll=0:full=1:seed=11,"
         f"trim=end_frame=1,scale={width}:2880:flags=neighbor,loop=loop=-1:size=1,"
         f"crop={size}:x=0:y='4*(30*floor(n/60)+min(mod(n,60),30))',format=yuv420p"),
        ("spin", MADE, 30, [],
         TEXTURE.format(r=30) + f",scale={size},loop=loop=-1:size=1,rotate=a=n*0.03:c=gray,"
         "format=yuv420p"),
        ("cuts", REENCODED, 30,
         ["Vanilagy__video-h265.mp4", "shaka-project__hls-ts-muxed-aac-h265.ts",
          "androidx__sample_edit_list.mp4", "privaloops__bbb1080_50f.265"],
         "".join(
             f"[{i}:v:0]trim=end_frame=50,scale={size},setsar=1,format=yuv420p,fps=30,"
             f"trim=end_frame=40,setpts=N/30/TB,settb=1/30[p{i}];" for i in range(4))
         + "[p0][p1][p2][p3]concat=n=4,loop=loop=-1:size=32000"),
    ]
    return result


def run(command, **kwargs):
    done = subprocess.run(
        [str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", **kwargs)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done


def make_clip(options, clip):
    """The clip as lossless H.264 (made once), or None where its footage is not there."""
    name, _, rate, files, graph = clip
    inputs = []
    for place, file in enumerate(files):
        path = options.footage / file
        if not path.exists():
            return None
        inputs += ["-noautorotate", "-i", path]
        graph = graph.replace(f"[{place}:v:0]", f"[{place}:{longest_stream(options, path)}]")
    out = options.work / f"{name}-{options.height}-{options.frames}.mkv"
    if not out.exists():
        part = out.with_suffix(".part.mkv")
        graph = f"{graph},setpts=N/({rate}*TB),fps={rate},setpts=N/({rate}*TB)[v]"
        run([options.ffmpeg, "-v", "error", "-y", *inputs, "-filter_complex", graph, "-map", "[v]",
             "-r", rate, "-frames:v", options.frames, "-c:v", "libx264", "-preset", "ultrafast",
             "-qp", 0, "-threads", 2, part])
        part.rename(out)
    return out


def longest_stream(options, path):
    """The video stream with the most packets: newer FFmpegs show the still pictures of a HEIF file
    as streams too, and before its video track."""
    counts = run([options.ffprobe, "-v", "error", "-count_packets", "-select_streams", "v",
                  "-show_entries", "stream=index,nb_read_packets", "-of", "csv=p=0", path]).stdout
    streams = [tuple(map(int, line.rstrip(",").split(",")[:2])) for line in counts.split()]
    return max(streams, key=lambda s: (s[1], -s[0]))[0]


def parse_structures(text):
    result = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words:
            result.append((words[0], dict(w.split("=", 1) for w in words[1:])))
    return result


def x265_params(structure, rate):
    """The same arithmetic as crates/repo-cli/src/convert/seek_profile.rs."""
    keys = dict(structure)
    if "gop" not in keys:
        return [f"{k.replace('_', '-')}={v}" for k, v in keys.items()]
    seconds = float(keys.pop("gop"))
    pictures = lambda s: max(1, math.floor(s * rate + 0.5))
    keyint = pictures(seconds)
    anchors = int(keys.pop("anchors", 0))
    if anchors:
        reach = anchors * (X265_MAX_BFRAMES + 1) + 1
        keyint = min(keyint, reach)
        bframes = min(max(-(-(keyint - 1) // anchors) - 1, 1), X265_MAX_BFRAMES)
    else:
        bframes = int(keys.pop("bframes", 4))
    params = {"keyint": keyint, "min-keyint": max(keyint // 10, 1), "open-gop": 0,
              "bframes": bframes}
    params.update({k.replace("_", "-"): v for k, v in keys.items()})
    return [f"{k}={v}" for k, v in params.items()]


def encode(options, source, rate, structure, crf):
    """One encode: a row of figures."""
    params = x265_params(structure, rate) + [
        f"crf={crf}", "psnr=1", "ssim=1", "pools=1", "frame-threads=1"]
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        out = Path(folder) / "a.hevc"
        begun = time.monotonic()
        log = run([options.ffmpeg, "-hide_banner", "-nostats", "-y", "-threads", 1, "-i", source,
                   "-c:v", "libx265", "-preset", options.preset, "-x265-params",
                   ":".join(params), "-f", "hevc", out]).stderr
        seconds = time.monotonic() - begun
        found = re.search(r"Global PSNR: ([\d.]+), SSIM Mean Y: ([\d.]+)", log)
        if not found:
            raise RuntimeError(f"x265 told no PSNR:\n{log[-2000:]}")
        cost = run([options.closures, "--csv", out]).stdout.splitlines()[1].split(",")[1:]
        return {
            "params": ":".join(params[:-5]),
            "bytes": out.stat().st_size, "psnr": found[1], "ssim": found[2],
            "seconds": f"{seconds:.2f}", "samples": cost[0], "gops": cost[1], "unknown": cost[2],
            "active_mean": cost[3], "active_max": cost[5], "rps_mean": cost[6],
            "prefix_mean": cost[9],
        }


FIELDS = ["clip", "kind", "rate", "structure", "crf", "params", "bytes", "psnr", "ssim", "seconds",
          "samples", "gops", "unknown", "active_mean", "active_max", "rps_mean", "prefix_mean"]


def measure(options):
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = [c for c in clips(options.height)
              if not options.clips or c[0] in options.clips.split(",")]
    text = options.structures.read_text() if options.structures else PROFILES
    structures = parse_structures(text)
    sources = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        made = {pool.submit(make_clip, options, c): c for c in chosen}
        for job in as_completed(made):
            clip = made[job]
            try:
                path = job.result()
            except RuntimeError as error:
                print(f"{clip[0]}: {error}", file=sys.stderr)
                continue
            if path is None:
                print(f"{clip[0]}: left out, its footage is not in {options.footage}",
                      file=sys.stderr)
            else:
                sources[clip[0]] = path
    chosen = [c for c in chosen if c[0] in sources]
    begun = time.monotonic()
    with open(options.csv, "w", newline="") as file, ThreadPoolExecutor(options.jobs) as pool:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        jobs = {}
        # Structure by structure, so that a run that is cut short has whole structures.
        for name, keys in structures:
            for crf in options.crf.split(","):
                for clip in chosen:
                    job = pool.submit(encode, options, sources[clip[0]], clip[2], keys, crf)
                    jobs[job] = {"clip": clip[0], "kind": clip[1], "rate": clip[2],
                                 "structure": name, "crf": crf}
        for done, job in enumerate(as_completed(jobs), 1):
            try:
                writer.writerow(jobs[job] | job.result())
                file.flush()
            except RuntimeError as error:
                print(f"{jobs[job]}: {error}", file=sys.stderr)
            if done % 50 == 0 or done == len(jobs):
                print(f"{done}/{len(jobs)} after {time.monotonic() - begun:.0f} s",
                      file=sys.stderr, flush=True)


def slopes(xs, ys):
    """Slopes of the monotone piecewise cubic through the points (Fritsch and Butland)."""
    h = [b - a for a, b in zip(xs, xs[1:])]
    d = [(b - a) / w for a, b, w in zip(ys, ys[1:], h)]
    if len(d) == 1:
        return [d[0], d[0]]

    def end(h0, h1, d0, d1):
        m = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if m * d0 <= 0:
            return 0.0
        return 3 * d0 if d0 * d1 <= 0 and abs(m) > 3 * abs(d0) else m

    inner = []
    for h0, h1, d0, d1 in zip(h, h[1:], d, d[1:]):
        if d0 * d1 <= 0:
            inner.append(0.0)
        else:
            a, b = 2 * h1 + h0, h1 + 2 * h0
            inner.append((a + b) / (a / d0 + b / d1))
    return [end(h[0], h[1], d[0], d[1]), *inner, end(h[-1], h[-2], d[-1], d[-2])]


def interpolate(xs, ys, ms, x):
    i = max(j for j in range(len(xs) - 1) if xs[j] <= x or j == 0)
    w = xs[i + 1] - xs[i]
    t = (x - xs[i]) / w
    return ((1 + 2 * t) * (1 - t) ** 2 * ys[i] + t * (1 - t) ** 2 * w * ms[i]
            + t * t * (3 - 2 * t) * ys[i + 1] + t * t * (t - 1) * w * ms[i + 1])


def bd_rate(reference, other):
    """Mean of size(other)/size(reference) - 1 over the qualities that both reach, in percent."""
    curves = []
    for points in (reference, other):
        points = sorted(points)
        xs = [q for q, _ in points]
        if len(set(xs)) < 2 or len(set(xs)) < len(xs):
            return math.nan
        ys = [math.log(size) for _, size in points]
        curves.append((xs, ys, slopes(xs, ys)))
    low = max(c[0][0] for c in curves)
    high = min(c[0][-1] for c in curves)
    if high <= low:
        return math.nan
    steps = 400
    total = 0.0
    for step in range(steps):
        q = low + (high - low) * (step + 0.5) / steps
        total += interpolate(*curves[1], q) - interpolate(*curves[0], q)
    return (math.exp(total / steps) - 1) * 100


def report(rows):
    """Markdown: one line per structure, then one table per clip."""
    decibels = lambda ssim: -10 * math.log10(max(1 - ssim, 1e-9))
    table = {}
    for row in rows:
        table.setdefault((row["structure"], row["clip"]), []).append(row)
    names = list(dict.fromkeys(r["structure"] for r in rows))
    found = {(r["clip"]): (r["kind"], int(r["rate"])) for r in rows}
    clip_names = [c[0] for c in clips(720) if c[0] in found]
    results = {}
    for name in names:
        for clip in clip_names:
            here, base = table.get((name, clip)), table.get(("default", clip))
            if not here or not base:
                continue
            pick = lambda rs, f: [(f(r), int(r["bytes"])) for r in rs]
            results[name, clip] = {
                "psnr": bd_rate(pick(base, lambda r: float(r["psnr"])),
                                pick(here, lambda r: float(r["psnr"]))),
                "ssim": bd_rate(pick(base, lambda r: decibels(float(r["ssim"]))),
                                pick(here, lambda r: decibels(float(r["ssim"])))),
                "mean": statistics.mean(float(r["active_mean"]) for r in here),
                "worst": max(float(r["active_mean"]) for r in here),
                "max": max(int(r["active_max"]) for r in here),
                "seconds": sum(float(r["seconds"]) for r in here),
                "base_seconds": sum(float(r["seconds"]) for r in base),
            }

    def signed(x):
        return "n/a" if math.isnan(x) else f"{x:+.1f}"

    print("| structure | mean closure | highest mean of a clip | longest | size at equal PSNR, mean %"
          " | at equal SSIM, mean % | median % (PSNR) | worst clip % (PSNR) | worst clip % (SSIM)"
          " | encode time |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in names:
        of = {c: results[name, c] for c in clip_names if (name, c) in results}
        if not of:
            continue
        mean = lambda key: statistics.mean(
            [r[key] for r in of.values() if not math.isnan(r[key])] or [math.nan])
        worst = lambda key: max(of, key=lambda c: (not math.isnan(of[c][key]), of[c][key]))
        wp, ws = worst("psnr"), worst("ssim")
        top = max(of, key=lambda c: of[c]["worst"])
        time_ratio = sum(r["seconds"] for r in of.values()) / sum(
            r["base_seconds"] for r in of.values())
        median = statistics.median(r["psnr"] for r in of.values())
        print(f"| {name} | {mean('mean'):.2f} | {of[top]['worst']:.2f} ({top}) "
              f"| {max(r['max'] for r in of.values())} | {signed(mean('psnr'))} "
              f"| {signed(mean('ssim'))} | {signed(median)} "
              f"| {signed(of[wp]['psnr'])} ({wp}) "
              f"| {signed(of[ws]['ssim'])} ({ws}) | {time_ratio:.2f} |")
    print("\nMean closure / size at equal PSNR % / at equal SSIM %\n")
    print("| clip | kind | fps | " + " | ".join(names) + " |")
    print("|---|---|---|" + "---|" * len(names))
    for clip in clip_names:
        kind, rate = found[clip]
        cells = []
        for name in names:
            r = results.get((name, clip))
            cells.append("" if r is None else
                         f"{r['mean']:.2f} / {signed(r['psnr'])} / {signed(r['ssim'])}")
        print(f"| {clip} | {kind} | {rate} | " + " | ".join(cells) + " |")
    print("\nMean (longest) closure by pictures per second\n")
    rates = sorted({rate for _, rate in found.values()})
    print("| structure | " + " | ".join(map(str, rates)) + " |")
    print("|---|" + "---|" * len(rates))
    for name in names:
        cells = []
        for rate in rates:
            of = [results[name, c] for c in clip_names
                  if found[c][1] == rate and (name, c) in results]
            cells.append("" if not of else f"{statistics.mean(r['mean'] for r in of):.2f} "
                         f"({max(r['max'] for r in of)})")
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--ffprobe", default="ffprobe")
    parser.add_argument("--closures", help="the built example `closures` of crate media")
    parser.add_argument("--footage", type=Path, default=os.environ.get(
        "BUCKET_STREAMER_FOOTAGE", here.parent / "shared" / "footage"))
    parser.add_argument("--work", type=Path, default=here / "target" / "measure-seek")
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--crf", default="22,26,30,34")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--clips", default="", help="names, with commas; default: all")
    parser.add_argument("--structures", type=Path, help="default: the three profiles")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if not options.report:
        if not (options.csv and options.closures):
            parser.error("--csv and --closures are needed to measure")
        measure(options)
    with open(options.report or options.csv, newline="") as file:
        report(list(csv.DictReader(file)))


if __name__ == "__main__":
    main()
