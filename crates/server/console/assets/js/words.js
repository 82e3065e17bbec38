// Figures as people read them: counts, rates, bytes, durations, times in the browser's zone with UTC
// on hover.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat("en");
const NONE = "-";

/** 1,234,567 */
export function count(value) {
  return value === null || value === undefined ? NONE : whole.format(value);
}

/** 950, 1.2 k, 3.45 M: three digits. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) {
      const divisor = unit === "k" ? 1e3 : size;
      return `${(value / divisor).toPrecision(3)} ${unit}`;
    }
  }
  return whole.format(Math.round(value));
}

/** A rate a second: small ones keep a digit. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value > 0 && value < 10 ? value.toFixed(1) : short(value);
}

/** 1.2 MB, with 1 KB = 1,024 bytes as in the configuration. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let left = value;
  while (Math.abs(left) >= 1000 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || left >= 100 ? 0 : left >= 10 ? 1 : 2;
  return `${left.toFixed(digits)} ${units[unit]}`;
}

/** 350 us, 12 ms, 1.5 s from microseconds. */
export function micros(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1000) return `${Math.round(value)} \u00b5s`;
  if (value < 1e6) return `${(value / 1000).toFixed(value < 1e4 ? 1 : 0)} ms`;
  return `${(value / 1e6).toFixed(1)} s`;
}

/** 3 d 4 h, 12 min, 8 s */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let left = Math.max(0, Math.round(seconds));
  const found = [];
  for (const [size, unit] of parts) {
    if (left >= size && found.length < 2) {
      found.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    } else if (found.length) break;
  }
  return found.join(" ") || "0 s";
}

/** Milliseconds of a setting: 7 d, 30 s, 500 ms. */
export function millis(value) {
  if (value === null || value === undefined) return "no limit";
  return value < 1000 ? `${value} ms` : duration(value / 1000);
}

const two = (number) => String(number).padStart(2, "0");

/** 2026-11-22 19:04:05 in the browser's zone. */
export function stamp(ms, withMillis = false) {
  const date = new Date(ms);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(ms, withMillis)}`;
}

/** 19:04:05 in the browser's zone. */
export function clock(ms, withMillis = false) {
  const date = new Date(ms);
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return withMillis ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

/** Milliseconds since the epoch from a number or from RFC 3339 text; null: neither. */
export function instant(value) {
  if (value === null || value === undefined || value === "" || value === 0) return null;
  const ms = typeof value === "number" ? value : Date.parse(value);
  // Beyond that there is no date.
  return Math.abs(ms) <= 8.64e15 ? ms : null;
}

/** A <time> in the browser's zone, UTC on hover. */
export function time(value, { withMillis = false, short: brief = false } = {}) {
  const ms = instant(value);
  if (ms === null) return h("span", { class: "faint" }, NONE);
  const text = !brief ? stamp(ms, withMillis) : isToday(ms) ? clock(ms, withMillis) : stamp(ms, withMillis).slice(5);
  const utc = new Date(ms).toISOString();
  return h("time", { datetime: utc, title: `${utc.replace("T", " ").replace("Z", "")} UTC` }, text);
}

function isToday(ms) {
  return new Date(ms).toDateString() === new Date().toDateString();
}

/** "1 client", "2 clients" */
export function several(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}
