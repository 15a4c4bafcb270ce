#!/usr/bin/env python3
"""One library (or program) that gives frames of a video, for `make bench` to be compared with.

    peer.py NAME        NAME is ffmpeg, pyav, torchcodec, decord or opencv

Reads one JSON object a line: {"open": FILE, "rate": FRAMES_A_SECOND}, {"frame": N}, {"all": STEP, "count": N}
(the first N frames in order; every STEPth image is given back).
Answers each by one JSON object a line; after one that has "sizes", so many bytes of JPEG images
follow. Times are taken here, around the work alone. Frames are asked for as each library's manual
says, with all cores; decoders stay open between frames. Images are JPEG of quality 80 in 4:2:0 by
OpenCV (libjpeg-turbo), but for ffmpeg, whose own encoder's scale has no such step (-q:v 3).
"""

import itertools
import json
import os
import subprocess
import sys
import time


def encode(array, rgb):
    """Rows of RGB or BGR pixels to a JPEG file's bytes."""
    import cv2

    if rgb:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise RuntimeError("no image")
    return data.tobytes()


class Peer:
    def prepare(self):
        """Before each single frame, while no clock runs: whatever was decoded before is of no use
        to it, as for the others."""


class Ffmpeg(Peer):
    """The program, once for each frame."""

    def __init__(self):
        text = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
        self.version = text.stdout.split()[2]

    def open(self, path, rate):
        self.path, self.rate = path, rate

    def run(self, before, after):
        line = ["ffmpeg", "-v", "error", "-nostdin", *before, "-i", self.path, *after]
        line += ["-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "-"]
        return subprocess.run(line, capture_output=True, check=True).stdout

    def frame(self, n):
        # The first frame at or after this time; half a frame early, so that rounding does no harm.
        at = max(0.0, (n - 0.5) / self.rate)
        return self.run(["-ss", f"{at:.6f}"], ["-frames:v", "1"])

    def all(self, count):
        # All at once, and no more than is wanted.
        data = self.run([], ["-frames:v", str(count)])
        start = 0
        while start < len(data):
            # No image data hold this marker.
            end = data.find(b"\xff\xd8\xff", start + 2)
            end = len(data) if end < 0 else end
            yield data[start:end]
            start = end


class PyAV(Peer):
    """Bindings to FFmpeg's libraries: seek to the keyframe before, decode up to the time."""

    def __init__(self):
        import av

        self.av, self.version = av, av.__version__

    def open(self, path, rate):
        self.path = path
        self.container, self.stream = self.fresh()
        self.first = self.stream.start_time or 0
        self.step = 1 / (rate * float(self.stream.time_base))

    def fresh(self):
        container = self.av.open(self.path)
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return container, stream

    def image(self, frame):
        return encode(frame.to_ndarray(format="bgr24"), rgb=False)

    def frame(self, n):
        target = self.first + round(n * self.step)
        self.container.seek(target, stream=self.stream, backward=True, any_frame=False)
        for frame in self.container.decode(self.stream):
            if frame.pts is not None and frame.pts >= target:
                return self.image(frame)
        raise RuntimeError("no such frame")

    def all(self, count):
        container, stream = self.fresh()
        for frame in container.decode(stream):
            yield self.image(frame)


class TorchCodec(Peer):
    """PyTorch's decoder, in its exact mode (it reads the whole file's index when it opens it)."""

    def __init__(self):
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        self.decoder, self.version = VideoDecoder, torchcodec.__version__

    def open(self, path, rate):
        # 0: as many threads as FFmpeg finds right.
        self.video = self.decoder(
            path, dimension_order="NHWC", num_ffmpeg_threads=0, seek_mode="exact"
        )

    def prepare(self):
        # It goes on from where it stands. At the beginning, that saves nothing.
        self.video.get_frame_at(0)

    def frame(self, n):
        return encode(self.video.get_frame_at(n).data.numpy(), rgb=True)

    def all(self, count):
        for n in range(min(count, len(self.video))):
            yield self.frame(n)


class Decord(Peer):
    """A reader made for training."""

    def __init__(self):
        import decord

        self.decord, self.version = decord, decord.__version__

    def open(self, path, rate):
        self.path = path
        self.prepare()

    def prepare(self):
        # It goes on from where it stands, and between two requests it decodes on.
        self.video = self.decord.VideoReader(self.path, num_threads=0)

    def frame(self, n):
        return encode(self.video[n].asnumpy(), rgb=True)

    def all(self, count):
        for n in range(min(count, len(self.video))):
            yield self.frame(n)


class OpenCV(Peer):
    """VideoCapture, with its own FFmpeg."""

    def __init__(self):
        import cv2

        self.cv2, self.version = cv2, cv2.__version__

    def open(self, path, rate):
        self.video = self.cv2.VideoCapture(path, self.cv2.CAP_FFMPEG)

    def read(self):
        done, array = self.video.read()
        return encode(array, rgb=False) if done else None

    def frame(self, n):
        self.video.set(self.cv2.CAP_PROP_POS_FRAMES, n)
        return self.read()

    def all(self, count):
        self.video.set(self.cv2.CAP_PROP_POS_FRAMES, 0)
        while (image := self.read()) is not None:
            yield image


PEERS = {
    "ffmpeg": Ffmpeg,
    "pyav": PyAV,
    "torchcodec": TorchCodec,
    "decord": Decord,
    "opencv": OpenCV,
}


def main():
    # Libraries that write to standard output must not disturb the answers.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(answer, images=()):
        answer["sizes"] = [len(image) for image in images]
        out.write(json.dumps(answer).encode() + b"\n")
        for image in images:
            out.write(image)
        out.flush()

    try:
        peer = PEERS[sys.argv[1]]()
        if sys.argv[1] != "ffmpeg":
            import cv2  # encodes
    except Exception as error:
        tell({"missing": f"{type(error).__name__}: {error}"})
        return
    tell({"version": peer.version})
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "frame" in command:
                peer.prepare()
            begin = time.perf_counter()
            if "open" in command:
                peer.open(command["open"], command["rate"])
                images = []
            elif "frame" in command:
                images = [peer.frame(command["frame"])]
                if images[0] is None:
                    raise RuntimeError("no such frame")
            else:
                count, images = 0, []
                for image in itertools.islice(peer.all(command["count"]), command["count"]):
                    if count % command["all"] == 0:
                        images.append(image)
                    count += 1
            answer = {"seconds": time.perf_counter() - begin}
            if "all" in command:
                answer["count"] = count
            tell(answer, images)
        except Exception as error:
            tell({"failed": f"{type(error).__name__}: {error}"})


main()
