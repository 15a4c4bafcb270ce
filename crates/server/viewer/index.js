// The frame index of the video that is set: times and keyframes, as they come in pieces.

/** Frames in one piece: a few hundred kilobytes of JSON between two pictures. */
export const PIECE = 8192;

export class FrameIndex {
  /** @param {{frame_count: number, fps: number, duration_ms: number}} video */
  constructor(video) {
    this.count = video.frame_count;
    this.fps = video.fps > 0 ? video.fps : 25;
    this.seconds = video.duration_ms / 1000;
    this.timescale = 1;
    /** Ticks; as many as are known from the first frame on. */
    this.pts = new Float64Array(this.count);
    this.keyframe = new Uint8Array(this.count);
    this.known = 0;
  }

  get last() {
    return Math.max(0, this.count - 1);
  }

  get whole() {
    return this.known >= this.count;
  }

  /** @param {object} message an `Index`; its pieces come in order */
  add({ from, timescale, pts, keyframe }) {
    if (from > this.known || from + pts.length > this.count) return;
    this.timescale = timescale;
    this.pts.set(pts, from);
    this.keyframe.set(keyframe, from);
    this.known = Math.max(this.known, from + pts.length);
  }

  /** Seconds from the first frame; by the mean rate where the piece has not come yet. */
  time(frame) {
    if (frame < this.known) return (this.pts[frame] - this.pts[0]) / this.timescale;
    return frame / this.fps;
  }

  isExact(frame) {
    return frame < this.known;
  }

  /** The frame that is shown at this time. */
  at(seconds) {
    if (!this.whole) return this.clamp(Math.floor(seconds * this.fps + 1e-6));
    let [low, high] = [0, this.count];
    // The last one whose time is not greater.
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.time(middle) <= seconds + 1e-6) low = middle;
      else high = middle;
    }
    return low;
  }

  clamp(frame) {
    return Math.min(this.last, Math.max(0, Math.round(frame)));
  }
}
