// The first page: the path of a message with live rates, what is wrong now, and the last hour.

import * as api from "./api.js";
import { charts } from "./charts.js";
import { $, fill, h, link, say } from "./dom.js";
import { problems } from "./problems.js";
import { every, gone } from "./shell.js";
import { bytes, count, duration, micros, rate, several, short } from "./words.js";

const known = { status: null, streams: [], groups: [], hooks: [], mirror: null, live: null, unreachable: null };
const drawn = charts($("charts"));

const optional = async (path, query, fallback) => {
  try {
    return await api.get(path, query, { signal: gone });
  } catch (error) {
    if (error instanceof api.ApiError) return fallback;
    throw error;
  }
};

async function look() {
  try {
    known.status = await api.get("/status", {}, { signal: gone });
    const [streams, groups, hooks, mirror] = await Promise.all([
      optional("/streams", { limit: 1000 }, []),
      optional("/groups", { limit: 1000 }, []),
      optional("/hooks", { limit: 1000 }, []),
      optional("/mirror", {}, null),
    ]);
    known.streams = api.rows(streams);
    known.groups = api.rows(groups);
    known.hooks = api.rows(hooks);
    known.mirror = mirror;
    known.unreachable = null;
  } catch (error) {
    if (gone.aborted) return;
    known.unreachable = error.message;
  }
  still();
  verdict();
}

/** What changes slowly. */
function still() {
  const { status } = known;
  if (!status) return;
  say($("uptime"), `${status.node}, up ${duration(status.uptime_s)}`);
  say($("p-sessions"), count(status.sessions));
  say($("p-subscriptions"), count(status.subscriptions));
  say($("p-retained"), count(status.retained));
  const own = known.streams.filter((stream) => !stream.internal);
  say($("p-size"), bytes(known.streams.reduce((sum, stream) => sum + (stream.size_bytes ?? 0), 0)));
  say($("p-size-unit"), `in ${several(own.length, "stream")}`);
  const unflushed = own.reduce((sum, stream) => sum + behind(stream), 0);
  say($("p-unflushed"), several(unflushed, "record"));
  gauges({
    connections: status.connections, owed: status.owed, disk_free_bytes: status.disk_free_bytes,
    journal_used_bytes: status.journal_used_bytes,
  });
  const groups = [...known.groups].sort((a, b) => lag(b) - lag(a)).slice(0, 3);
  say($("p-lag"), short(known.groups.reduce((sum, group) => sum + lag(group), 0)));
  fill($("p-groups"), ...(groups.length
    ? groups.flatMap((group) => [h("dt", { class: "mono" }, group.group ?? group.id), h("dd", {}, short(lag(group)))])
    : [h("dt", {}, "No consumer group yet"), h("dd", {}, "")]));
}

const behind = (stream) => (stream.partitions ?? []).reduce((sum, one) => sum + Math.max(0, one.end - one.flushed), 0);
export const lag = (group) =>
  typeof group.lag === "number" ? group.lag : (group.offsets ?? []).reduce((sum, one) => sum + (one.lag ?? 0), 0);

function gauges(now) {
  say($("p-connections"), count(now.connections));
  say($("p-owed"), short(now.owed));
  say($("p-free"), bytes(now.disk_free_bytes));
  const whole = known.status?.journal_bytes;
  if (!whole || now.journal_used_bytes === undefined) return;
  const percent = Math.min(100, Math.round((100 * now.journal_used_bytes) / whole));
  say($("p-journal"), `${percent} %`);
  $("m-journal").firstElementChild.style.width = `${percent}%`;
}

/** One second of live figures. */
function live(now) {
  known.live = now;
  say($("r-in"), rate(now.messages_in));
  say($("r-out"), rate(now.messages_out));
  say($("r-records"), rate(now.records_in));
  say($("r-read"), rate(now.kafka_records_out));
  say($("p-dropped"), `${rate(now.dropped)} /s`);
  say($("p-bytes-in"), `${bytes(now.bytes_in)}/s`);
  say($("p-bytes-out"), `${bytes(now.bytes_out)}/s`);
  say($("p-flush"), micros(now.flush_p99_us));
  say($("p-kafka"), count(now.kafka_connections));
  if (typeof now.lag === "number") say($("p-lag"), short(now.lag));
  gauges(now);
  pace("f-in", now.messages_in + now.messages_out);
  pace("f-records", now.records_in);
  pace("f-read", now.kafka_records_out);
  drawn.add(now);
}

/** How fast the dots of a pipe move: still, or one of four paces. */
function pace(id, value) {
  const step = !value ? 0 : value < 10 ? 1 : value < 1000 ? 2 : value < 20000 ? 3 : 4;
  $(id).dataset.pace = String(step);
}

function verdict() {
  const found = problems(known);
  const worst = found.some((one) => one.bad) ? "bad" : found.length ? "warn" : "good";
  $("verdict").className = `verdict ${worst}`;
  say($("verdict-title"), found.length === 0 ? "Nothing is wrong." : found.length === 1 ? "One thing needs a look." : `${found.length} things need a look.`);
  fill($("problems"), ...found.map((one) =>
    h("li", { class: one.bad ? "bad" : "warn" }, h("span", {}, one.text), one.to && h("a", { href: link(one.to, one.query) }, one.where ?? "Look"))));
}

function start() {
  every(3000, look);
  optional("/metrics/history", {}, []).then((history) => drawn.history(api.rows(history))).catch(() => {});
  api.follow("/metrics/live", {}, {
    signal: gone,
    on: (name, now) => typeof now === "object" && live(now),
  });
}

start();
