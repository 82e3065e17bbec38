// Sessions, with a connection or without: table, details, disconnect.

import * as api from "./api.js";
import { $, h, link } from "./dom.js";
import { attempt, closeDrawer, confirmed, drawer, every, gone } from "./shell.js";
import { facts, filters, paged, pill, table } from "./table.js";
import { bytes, count, duration, rate, time } from "./words.js";

const id = (row) => row.client_id;
const query = filters($("filters"), () => list.load());

const list = paged($("table"), "/clients", [
  { title: "Client id", order: "client_id", mono: true, grow: true, cell: (row) => h("button", { type: "button", class: "link mono", onclick: () => show(row) }, id(row)) },
  { title: "State", cell: (row) => (row.connected ? pill("connected", "good") : pill("away")) },
  { title: "User", order: "username", cell: (row) => row.username || h("span", { class: "faint" }, "-") },
  { title: "Address", mono: true, class: "whole", cell: (row) => row.peer ?? h("span", { class: "faint" }, "-") },
  { title: "MQTT", cell: (row) => row.protocol },
  { title: "Subs", order: "subscriptions", num: true, cell: (row) => count(row.subscriptions) },
  { title: "Inflight", order: "inflight", num: true, cell: (row) => count(row.inflight) },
  { title: "Owed", order: "owed", num: true, cell: (row) => count(row.owed) },
  { title: "Since", order: "connected_ms", cell: (row) => time(row.connected ? row.connected_ms : row.disconnected_ms, { short: true }) },
], { query, count: $("count"), one: "client", empty: "No client matches.", key: id, onrow: (row) => show(row) });

/** Details of one client in the drawer. */
async function show(row) {
  let told = row;
  let trouble = null;
  try {
    told = { ...row, ...(await api.get(`/clients/${api.part(id(row))}`, {}, { signal: gone })) };
  } catch (error) {
    trouble = error.message;
  }
  const traces = await api.has("get", "/trace/live").catch(() => false);
  const subscriptions = h("div");
  const known = Array.isArray(told.subscriptions_list) ? told.subscriptions_list : Array.isArray(told.subscriptions) ? told.subscriptions : null;
  table(subscriptions, [
    { title: "Filter", mono: true, grow: true, cell: (one) => one.filter },
    { title: "QoS", num: true, cell: (one) => one.qos },
    { title: "Share", mono: true, cell: (one) => one.share ?? "" },
  ], { empty: "No subscriptions." }).show(known ?? []);
  drawer(id(row),
    trouble && h("p", { class: "error" }, trouble),
    facts([
      ["State", told.connected ? pill("connected", "good") : pill("away")],
      ["User name", told.username || "-"],
      ["Address", h("span", { class: "mono" }, told.peer ?? "-")],
      ["Listener", told.listener ?? undefined],
      ["From it", told.traffic ? flow(told.traffic, "in", told.limits, told.slowed) : undefined],
      ["To it", told.traffic ? flow(told.traffic, "out") : undefined],
      ["Protocol", `MQTT ${told.protocol}`],
      ["Keep alive", told.keep_alive_s ? duration(told.keep_alive_s) : "none"],
      ["Session expiry", expiry(told)],
      ["Connected", time(told.connected_ms)],
      ["Disconnected", told.disconnected_ms ? time(told.disconnected_ms) : undefined],
      ["On the way", of(told.inflight, told.limits?.inflight_max)],
      ["Owed", of(told.owed, told.limits?.owed_max)],
      ["Subscriptions", typeof told.subscriptions === "number" ? of(told.subscriptions, told.limits?.subscriptions_max) : undefined],
      ["Unfinished from it", told.unfinished ?? undefined],
      ["Answers that wait", told.answers_waiting],
      ["Largest packet", told.limits?.packet_size_max < 0xffffffff ? bytes(told.limits.packet_size_max) : undefined],
      ["Will", told.will ? h("span", {}, h("span", { class: "mono" }, told.will.topic), ` QoS ${told.will.qos}`, told.will.retain && ", retained", told.will.delay_s > 0 && `, after ${duration(told.will.delay_s)}`) : undefined],
      ...rest(told),
    ]),
    h("h3", {}, "Subscriptions"),
    known === null ? h("p", {}, h("a", { href: link("/subscriptions", { filter: id(row) }) }, "Show its subscriptions")) : subscriptions,
    h("div", { class: "row" },
      told.connected && h("button", { type: "button", class: "danger", onclick: () => end(row) }, "Disconnect"),
      traces && h("a", { class: "button", href: link("/live", { tab: "trace", client: id(row) }) }, "Trace it")));
}

const of = (value, most) => (most ? `${count(value)} of ${count(most)}` : count(value));

/** What goes one way over a connection: now, what its listener lets through, and in all. */
function flow(traffic, way, limits, slowed) {
  const rates = [traffic[`messages_${way}_per_s`], traffic[`bytes_${way}_per_s`]];
  const most = way === "in" ? [limits?.messages_in_per_s, limits?.bytes_in_per_s] : [];
  const words = (messages, size) => [messages != null && `${rate(messages)} messages/s`, size != null && `${bytes(Math.round(size))}/s`].filter(Boolean).join(", ");
  const bound = words(...most);
  return h("span", {}, words(...rates), bound && ` of ${bound}`, slowed && [" ", pill("slowed down", "warn")],
    h("span", { class: "faint" }, `; ${count(traffic[`messages_${way}`])} messages, ${bytes(traffic[`bytes_${way}`])} in all`));
}

function expiry(row) {
  if (row.session_expiry_s === null || row.session_expiry_s === undefined) return "never";
  return row.session_expiry_s === 0 ? "with its connection" : duration(row.session_expiry_s);
}

const SHOWN = new Set(["client_id", "username", "connected", "peer", "listener", "protocol", "keep_alive_s", "session_expiry_s",
  "connected_ms", "disconnected_ms", "connected_at", "disconnected_at", "inflight", "owed", "subscriptions", "subscriptions_list", "will", "limits", "unfinished", "answers_waiting", "traffic", "slowed"]);

/** What else the node tells of it: words and figures as they are. */
function rest(row) {
  return Object.entries(row)
    .filter(([name, value]) => !SHOWN.has(name) && value !== null && value !== "")
    .map(([name, value]) => [name.replaceAll("_", " "), typeof value === "object" ? h("code", {}, JSON.stringify(value)) : String(value)]);
}

async function end(row) {
  const yes = await confirmed("Disconnect this client?", `${id(row)} loses its connection. Its session stays as long as its expiry says, and it may connect again.`, "Disconnect");
  if (!yes) return;
  if (await attempt(() => api.remove(`/clients/${api.part(id(row))}`), "Disconnected.")) {
    closeDrawer();
    list.again();
  }
}

list.load();
every(5000, () => list.again());
