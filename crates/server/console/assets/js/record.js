// One record of a stream: a line that opens into its value decoded, as JSON or text, and as hex, with
// its key and headers.

import { cut, fromBase64, glimpse, hexdump, prettyJson, printable, shown, utf8 } from "./bytes.js";
import { copier, fill, h } from "./dom.js";
import { bytes, count, time } from "./words.js";

let number = 0;

/** The record as a <details>. */
export function record(row) {
  const value = bytesOf(row, "value");
  const parts = value === null ? null : envelope(value);
  const body = h("div", { class: "record-body" });
  const summary = h("summary", {},
    h("span", { class: "at mono", title: `partition ${row.partition}, offset ${row.offset}` }, `${row.partition}:${row.offset}`),
    time(row.time_ms ?? row.time, { withMillis: true, short: true }),
    h("span", { class: "key mono" }, keyText(row)),
    h("span", { class: "glimpse mono" }, value === null ? "deleted" : glimpse(parts?.payload ?? value)));
  const details = h("details", { class: value === null ? "record gone" : "record" }, summary, body);
  details.addEventListener("toggle", () => {
    if (details.open && !body.hasChildNodes()) fill(body, ...content(row, value, parts));
  });
  return details;
}

function bytesOf(row, field) {
  const encoded = row[`${field}_base64`];
  if (typeof encoded === "string") return fromBase64(encoded);
  const text = row[field];
  if (text === null || text === undefined) return null;
  return new TextEncoder().encode(typeof text === "string" ? text : JSON.stringify(text));
}

function keyText(row) {
  const key = bytesOf(row, "key");
  return key === null ? "" : glimpse(key, 48);
}

/** What a hook wrote: the fields, and the payload as bytes. Null: the value is something else. */
export function envelope(value) {
  const text = utf8(value);
  if (text === null || !text.startsWith("{")) return null;
  let fields;
  try {
    fields = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof fields.topic !== "string" || typeof fields.payload !== "string") return null;
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(fields.payload) || fields.payload.length % 4 !== 0) return { fields, payload: null };
  return { fields, payload: fromBase64(fields.payload) };
}

function content(row, value, parts) {
  if (value === null) return [meta(row, null), h("p", {}, "A tombstone: the key was deleted."), headers(row)];
  const views = [];
  if (parts) views.push(["Decoded", () => decoded(parts)]);
  const text = utf8(value);
  const json = text === null ? null : prettyJson(text);
  if (json) views.push(["JSON", () => json]);
  if (printable(text)) views.push(["Raw", () => h("pre", {}, cut(text))]);
  views.push(["Hex", () => h("pre", { class: "hex" }, hexdump(value))]);
  return [meta(row, value), tabs(views), headers(row), h("div", { class: "row" }, copier(() => text ?? row.value_base64, "Copy the value"))];
}

const pair = (name, value, kind) => h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));

function meta(row, value) {
  const key = bytesOf(row, "key");
  const size = value && (row.value_cut ? `${bytes(row.size_bytes)}, the first ${bytes(value.length)} are shown` : bytes(value.length));
  return h("dl", { class: "facts inline" },
    pair("Partition", row.partition),
    pair("Offset", count(row.offset)),
    pair("Time", time(row.time_ms ?? row.time, { withMillis: true })),
    pair("Key", key === null ? "none" : glimpse(key, 400), "mono"),
    size && pair("Value", size));
}

/** The fields of an event, and what the device sent below them. */
function decoded({ fields, payload }) {
  const shownAs = (name, value) => {
    if (name === "ts") return time(value, { withMillis: true });
    return value === "" ? h("span", { class: "faint" }, "empty") : String(value);
  };
  const names = Object.entries(fields).filter(([name]) => name !== "payload");
  return h("div", { class: "decoded" },
    h("dl", { class: "facts inline" }, ...names.map(([name, value]) => pair(name, shownAs(name, value), "mono"))),
    h("p", { class: "label" }, "Payload"),
    payload === null ? h("pre", {}, cut(String(fields.payload))) : shown(payload));
}

function headers(row) {
  const found = row.headers ?? [];
  if (!found.length) return null;
  const cells = found.map((one) => {
    const content = bytesOf(one, "value");
    return h("tr", {}, h("th", { scope: "row", class: "mono" }, one.name ?? one.key), h("td", { class: "mono" }, content === null ? "null" : glimpse(content, 400)));
  });
  return h("div", {}, h("p", { class: "label" }, "Headers"), h("table", { class: "keys-table" }, h("tbody", {}, ...cells)));
}

/** Views of the same bytes, one at a time; arrow keys move between them. */
function tabs(views) {
  number += 1;
  const pane = h("div", { role: "tabpanel", id: `view-${number}`, class: "view" });
  const buttons = views.map(([title], index) =>
    h("button", { type: "button", role: "tab", "aria-controls": `view-${number}`, onclick: () => choose(index) }, title));
  const bar = h("div", { class: "tabs small", role: "tablist", "aria-label": "How the value is shown" }, ...buttons);
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = buttons.findIndex((button) => button.getAttribute("aria-selected") === "true");
    const next = (now + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].focus();
  });
  function choose(index) {
    buttons.forEach((button, at) => {
      button.setAttribute("aria-selected", String(at === index));
      button.tabIndex = at === index ? 0 : -1;
    });
    fill(pane, views[index][1]());
  }
  choose(0);
  return h("div", {}, bar, pane);
}
