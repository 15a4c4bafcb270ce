// Numbers as people read them.

/** `1:02:03.040`, or `2:03.040` below an hour. */
export function clock(seconds, digits = 3) {
  const unit = 10 ** digits;
  const whole = Math.round(Math.max(0, seconds) * unit);
  const part = String(whole % unit).padStart(digits, "0");
  const all = Math.floor(whole / unit);
  const [s, m, h] = [all % 60, Math.floor(all / 60) % 60, Math.floor(all / 3600)];
  const two = (n) => String(n).padStart(2, "0");
  const head = h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  return digits > 0 ? `${head}.${part}` : head;
}

/** `4.2 MB`. */
export function bytes(count) {
  let value = count;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 999.5 || unit === "TB") {
      return `${value < 9.95 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    }
    value /= 1000;
  }
  return "";
}

/** `38 ms`, `1.2 s`. */
export function milliseconds(ms) {
  if (ms >= 9950) return `${Math.round(ms / 1000)} s`;
  if (ms >= 999.5) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

const grouped = new Intl.NumberFormat("en").format;

/** `12,345`. */
export function number(value) {
  return grouped(value);
}

/** A modified time, short. */
export function day(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "";
  return date.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
}

/** The last part of a key. */
export function base(key) {
  return key.split("/").filter(Boolean).pop() ?? key;
}
