// The log of the node as it is written, and packets of chosen clients as they pass.

import * as api from "./api.js";
import { $, fill, h, say } from "./dom.js";
import { attempt, gone } from "./shell.js";
import { pill } from "./table.js";
import { several, time } from "./words.js";

/** Most lines on the page. */
const KEPT = 1000;
const RANK = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 };
const KIND = { warn: "warn", error: "bad" };
const address = new URLSearchParams(location.search);
const state = { tab: "log", paused: false, lines: [], stop: null, missed: 0 };

function start() {
  state.stop?.abort();
  const stopper = new AbortController();
  state.stop = stopper;
  state.lines = [];
  state.missed = 0;
  gone.addEventListener("abort", () => stopper.abort(), { once: true });
  draw();
  const trace = $("trace-form").elements;
  const chosen = Object.fromEntries(["client", "topic", "address"].map((name) => [name, trace[name].value.trim()]));
  if (state.tab === "trace" && !Object.values(chosen).some(Boolean)) {
    say($("count"), "");
    fill($("lines"), h("li", { class: "empty" }, "Give a client id, a topic or an address: its packets appear here as they pass."));
    return;
  }
  say($("count"), "following");
  const [path, query] = state.tab === "log" ? ["/log/live", {}] : ["/trace/live", chosen];
  api.follow(path, query, {
    signal: stopper.signal,
    broken: (text) => say($("count"), text ? `not followed: ${text}` : told()),
    on: (event, line) => (event === "skipped" ? (state.missed += Number(line.count ?? line) || 0) : add(line)),
  });
}

function add(line) {
  for (const one of Array.isArray(line?.items) ? line.items : [line]) {
    if (one && typeof one === "object") state.lines.push(one);
  }
  if (state.lines.length > KEPT) state.lines.splice(0, state.lines.length - KEPT);
  if (!state.paused && !state.waiting) {
    state.waiting = true;
    requestAnimationFrame(() => ((state.waiting = false), draw()));
  }
}

function told() {
  return `following, ${several(state.lines.length, "line")}${state.missed ? `, ${several(state.missed, "line")} skipped` : ""}`;
}

function draw() {
  const form = $("log-form").elements;
  const least = RANK[form.show.value] ?? 0;
  const text = form.text.value.trim().toLowerCase();
  const fits = (line) => state.tab === "trace" || ((RANK[level(line)] ?? 2) >= least && (!text || JSON.stringify(line).toLowerCase().includes(text)));
  const found = state.lines.filter(fits).slice(-400).reverse();
  fill($("lines"), ...found.map(state.tab === "log" ? logLine : traceLine));
  if (!found.length && state.tab === "log") fill($("lines"), h("li", { class: "empty" }, "Nothing yet."));
  if (state.lines.length) say($("count"), told());
}

const level = (line) => String(line.level ?? "info").toLowerCase();

function fieldsOf(line) {
  if (!line.fields || typeof line.fields !== "object") return "";
  return Object.entries(line.fields).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
}

function logLine(line) {
  return h("li", { class: `line ${level(line)}` },
    time(line.time_ms ?? line.time, { withMillis: true, short: true }), pill(level(line), KIND[level(line)] ?? ""),
    h("span", { class: "what" }, line.message ?? "", " ", h("span", { class: "faint mono" }, fieldsOf(line))),
    h("span", { class: "faint mono target" }, line.target ?? ""));
}

function traceLine(line) {
  const inward = line.direction === "in";
  return h("li", { class: "line" },
    time(line.time_ms ?? line.time, { withMillis: true, short: true }), pill(inward ? "\u2192 in" : line.direction ? "\u2190 out" : "event", inward ? "good" : ""),
    h("span", { class: "what" }, h("b", {}, line.packet ?? line.event ?? ""), " ", h("span", { class: "mono" }, line.topic ?? ""), " ", h("span", { class: "faint" }, behind(line))),
    h("span", { class: "faint mono target" }, line.client_id ?? line.client ?? ""));
}

function choose(tab) {
  state.tab = tab;
  for (const one of ["log", "trace"]) {
    $(`tab-${one}`).setAttribute("aria-selected", String(one === tab));
    $(`tab-${one}`).tabIndex = one === tab ? 0 : -1;
    $(`${one}-form`).hidden = one !== tab;
  }
  $("pane").setAttribute("aria-labelledby", `tab-${tab}`);
  start();
}

for (const one of ["log", "trace"]) {
  $(`tab-${one}`).addEventListener("click", () => choose(one));
  $(`tab-${one}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = one === "log" ? "trace" : "log";
    choose(other);
    $(`tab-${other}`).focus();
  });
}
$("trace-form").addEventListener("submit", (event) => (event.preventDefault(), start()));
$("log-form").addEventListener("submit", (event) => event.preventDefault());
$("log-form").addEventListener("input", draw);
$("set-level").addEventListener("click", () => {
  const chosen = $("log-form").elements.level.value;
  attempt(() => api.put("/log/level", { level: chosen }), `The node writes ${chosen} and above, until its next start.`);
});
api.get("/log/level", {}, { signal: gone }).then((levels) => {
  $("log-form").elements.level.value = api.rows(levels).find((row) => !row.module)?.level ?? "info";
}).catch(() => {});
$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  say($("pause"), state.paused ? "Go on" : "Pause");
  if (!state.paused) draw();
});
$("clear").addEventListener("click", () => ((state.lines = []), draw()));
for (const name of ["client", "topic", "address"]) $("trace-form").elements[name].value = address.get(name) ?? "";
api.has("get", "/trace/live").then((yes) => {
  $("tab-trace").hidden = !yes;
  choose(yes && address.get("tab") === "trace" ? "trace" : "log");
}, () => choose("log"));

/** What the summary says besides the packet's name and topic, which stand before it. */
function behind(line) {
  let text = line.summary ?? line.message ?? "";
  for (const known of [line.packet, line.topic]) {
    if (known && text.startsWith(`${known} `)) text = text.slice(known.length + 1);
  }
  return text === line.packet ? "" : text;
}
