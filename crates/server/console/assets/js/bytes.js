// Bytes as text, JSON and hex. JSON is laid out token by token, never through numbers of this
// language: an id of twenty digits stays the id it was.

import { h } from "./dom.js";

/** Bytes of base64 text. */
export function fromBase64(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

/** Text of UTF-8 bytes; null: they are something else. */
export function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Whether text has no control characters but white space. */
export function printable(text) {
  // eslint-disable-next-line no-control-regex
  return text !== null && !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text);
}

/** The lines of a hex dump: offset, sixteen bytes, the same as ASCII. */
export function hexdump(bytes, most = 4096) {
  const lines = [];
  const shown = bytes.subarray(0, most);
  for (let at = 0; at < shown.length; at += 16) {
    const row = shown.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, "0"));
    while (hex.length < 16) hex.push("  ");
    const ascii = Array.from(row, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.slice(0, 8).join(" ")}  ${hex.slice(8).join(" ")}  ${ascii}`);
  }
  if (bytes.length > most) lines.push(`... ${bytes.length - most} more bytes`);
  return lines.join("\n");
}

const TOKEN = /\s+|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{}[\],:]/gy;

/** What is laid out or coloured at most: what devices send must not stop the page. */
const TEXT_MAX = 64 * 1024;
const TOKENS_MAX = 20000;
const DEPTH_MAX = 64;

/** The tokens of JSON text; null: it is not JSON, or too much to lay out. */
export function tokens(text) {
  if (text.length > TEXT_MAX) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const found = (text.match(TOKEN) ?? []).filter((token) => token.trim() !== "");
  return found.length <= TOKENS_MAX && depth(found) <= DEPTH_MAX ? found : null;
}

function depth(found) {
  let now = 0;
  let most = 0;
  for (const token of found) {
    if (token === "{" || token === "[") now += 1;
    else if (token === "}" || token === "]") now -= 1;
    most = Math.max(most, now);
  }
  return most;
}

/** Text, as much of it as is shown. */
export function cut(text) {
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}\n... ${text.length - TEXT_MAX} more characters` : text;
}

/** JSON text laid out, with its numbers as they were written; null: it is not JSON. */
export function prettyText(text) {
  const found = tokens(text);
  return found && laidOut(found).map(([, word]) => word).join("");
}

/** The same as a <pre> with a colour for each kind of token; null: it is not JSON. */
export function prettyJson(text) {
  const found = tokens(text);
  if (!found) return null;
  const nodes = laidOut(found).map(([kind, word]) => (kind ? h("span", { class: `j-${kind}` }, word) : word));
  return h("pre", { class: "json" }, ...nodes);
}

/** Tokens with their kind, and the white space between them. */
function laidOut(found) {
  const out = [];
  let depth = 0;
  const line = () => out.push(["", `\n${"  ".repeat(depth)}`]);
  found.forEach((token, index) => {
    const next = found[index + 1];
    const before = found[index - 1];
    if (token === "}" || token === "]") {
      depth -= 1;
      if (before !== "{" && before !== "[") line();
      out.push(["", token]);
    } else if (token === "{" || token === "[") {
      out.push(["", token]);
      depth += 1;
      if (next !== "}" && next !== "]") line();
    } else if (token === ",") {
      out.push(["", token]);
      line();
    } else if (token === ":") {
      out.push(["", ": "]);
    } else if (token.startsWith('"')) {
      out.push([next === ":" ? "key" : "string", token]);
    } else {
      out.push(["number", token]);
    }
  });
  return out;
}

/** How bytes are best shown: JSON laid out, else text, else hex. */
export function shown(bytes) {
  if (bytes.length === 0) return h("p", { class: "faint" }, "empty");
  const text = utf8(bytes);
  if (printable(text)) return prettyJson(text) ?? h("pre", {}, cut(text));
  return h("pre", { class: "hex" }, hexdump(bytes));
}

/** One line of bytes for a list. */
export function glimpse(bytes, most = 160) {
  const text = utf8(bytes);
  if (printable(text)) {
    const line = text.replace(/\s+/g, " ").trim();
    return line.length > most ? `${line.slice(0, most)}\u2026` : line;
  }
  const hex = Array.from(bytes.subarray(0, 24), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > 24 ? `${hex} \u2026` : hex;
}
