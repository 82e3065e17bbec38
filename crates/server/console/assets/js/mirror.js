// The mirror into an Apache Kafka cluster, and the downlinks that come the other way.

import * as api from "./api.js";
import { $, fill, h, link } from "./dom.js";
import { attempt, confirmed, every, gone, why } from "./shell.js";
import { card, pill, table } from "./table.js";
import { bytes, count, duration, micros, several, short, time } from "./words.js";

const KIND = { connected: "good", running: "good", mirrored: "good", waiting: "warn", paused: "warn", off: "" };
const state = (row) => pill(row.state ?? "-", KIND[row.state] ?? "bad");
const maybe = (value, show) => (value === undefined || value === null ? h("span", { class: "faint" }, "-") : show(value));

const may = { toggle: false };
let streams = null;
let downlinks = null;

async function mirror() {
  try {
    const told = await api.get("/mirror", {}, { signal: gone });
    const rows = told.streams ?? api.rows(told);
    if (told.state === "off" || (!told.state && rows.length === 0)) {
      streams = null;
      $("switch").hidden = true;
      fill($("facts"));
      fill($("table"), h("p", { class: "empty" }, "Nothing is mirrored. A ", h("code", {}, "[mirror]"), " table in the configuration names the cluster and the streams."));
      return;
    }
    const paused = told.state === "paused";
    $("switch").hidden = !may.toggle || told.state === "fenced";
    $("switch").textContent = paused ? "Enable" : "Disable";
    $("switch").setAttribute("aria-label", `${paused ? "Enable" : "Disable"} the mirror`);
    $("switch").onclick = () => toggle(paused);
    const lag = rows.reduce((sum, row) => sum + (row.lag_records ?? 0), 0);
    const errors = (told.errors ?? []).reduce((sum, row) => sum + row.count, 0);
    fill($("facts"),
      card("State", state(told), told.why ?? (told.since_ms ? `for ${duration((Date.now() - told.since_ms) / 1000)}` : undefined)),
      card("Behind", short(lag), several(rows.length, "stream")),
      card("Exactly once", told.exactly_once ? "yes" : "no", told.exactly_once ? `${count(told.transactions)} transactions, ${count(told.aborted ?? 0)} aborted` : undefined),
      card("Cluster", h("span", { class: "mono small-text" }, [told.brokers].flat().join(", ") || "-"), told.identity ? `as ${told.identity}` : undefined),
      card("Errors", count(errors), (told.errors ?? []).filter((row) => row.count).map((row) => `${row.kind} ${count(row.count)}`).join(", ") || "none"));
    streams ??= table($("table"), [
      { title: "Stream", mono: true, grow: true, cell: (row) => h("a", { href: link("/streams", { name: row.stream }) }, row.stream) },
      { title: "Topic there", mono: true, class: "whole", cell: (row) => row.topic ?? row.stream },
      { title: "State", cell: (row) => h("span", { title: row.why ?? "" }, state(row)) },
      { title: "Behind", num: true, cell: (row) => maybe(row.lag_records, count) },
      { title: "Oldest", num: true, cell: (row) => maybe(row.lag_ms, (ms) => (ms ? micros(ms * 1000) : "0")) },
      { title: "Records", num: true, cell: (row) => maybe(row.records, count) },
      { title: "Bytes", num: true, cell: (row) => maybe(row.bytes, bytes) },
      { title: "Dead letters", num: true, cell: (row) => maybe(row.dead_letters, count) },
      { title: "Lost", num: true, cell: (row) => maybe(row.lost, (lost) => (lost > 0 ? pill(count(lost), "bad") : "0")) },
    ], { empty: "No stream is mirrored.", key: (row) => row.stream });
    streams.show(rows);
  } catch (error) {
    if (gone.aborted) return;
    streams = null;
    fill($("facts"));
    fill($("table"), why(error));
  }
}

async function toggle(on) {
  if (!on && !(await confirmed("Disable the mirror?", "Nothing more is written into the cluster until it is enabled or the node is started again. What comes stays on the disk; messages of streams with ack = \"kafka\" are answered with an error once their time is over.", "Disable"))) return;
  await attempt(() => api.post(`/mirror/${on ? "enable" : "disable"}`), on ? "Enabled." : "Disabled.");
  mirror();
}

async function down() {
  try {
    if (!(await api.has("get", "/downlinks"))) return;
    $("downlinks-section").hidden = false;
    const rows = api.rows(await api.get("/downlinks", { limit: 1000 }, { signal: gone }));
    downlinks ??= table($("downlinks"), [
      { title: "Name", mono: true, cell: (row) => row.name },
      { title: "From", mono: true, class: "whole", cell: (row) => row.source },
      { title: "To the topic", mono: true, grow: true, cell: (row) => row.topic },
      { title: "State", cell: (row) => h("span", { title: row.why ?? "" }, state(row)) },
      { title: "Published", num: true, cell: (row) => maybe(row.published, count) },
      { title: "Refused", num: true, cell: (row) => maybe(row.refused, count) },
      { title: "Expired", num: true, cell: (row) => maybe(row.expired, count) },
      { title: "Lost", num: true, cell: (row) => maybe(row.lost, (lost) => (lost > 0 ? pill(count(lost), "bad") : "0")) },
      { title: "Behind", num: true, cell: (row) => maybe(row.lag_records, count) },
      { title: "Since", cell: (row) => time(row.since_ms, { short: true }) },
    ], { empty: "No downlinks are configured.", key: (row) => row.name });
    downlinks.show(rows);
  } catch (error) {
    if (gone.aborted) return;
    downlinks = null;
    fill($("downlinks"), why(error));
  }
}

async function start() {
  try {
    may.toggle = await api.has("post", "/mirror/disable");
  } catch {
    // Then there is no button.
  }
  every(2000, () => Promise.all([mirror(), down()]));
}

start();
