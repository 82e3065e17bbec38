// Retained messages: list, look, delete.

import * as api from "./api.js";
import { fromBase64, shown } from "./bytes.js";
import { $, fill, h } from "./dom.js";
import { attempt, closeDrawer, confirmed, drawer, gone } from "./shell.js";
import { facts, filters, paged } from "./table.js";
import { bytes, time } from "./words.js";

const query = filters($("filters"), () => list.load());

const list = paged($("table"), "/retained", [
  { title: "Topic", mono: true, grow: true, cell: (row) => h("button", { type: "button", class: "link mono", onclick: () => show(row) }, row.topic) },
  { title: "Size", num: true, cell: (row) => bytes(row.size_bytes) },
  { title: "Expires", cell: (row) => (row.expires_ms ? time(row.expires_ms) : "never") },
], { query, count: $("count"), one: "message", empty: "No retained message matches.", key: (row) => row.topic, onrow: (row) => show(row) });

async function show(row) {
  const payload = h("div", {}, h("p", { class: "faint" }, "Reading ..."));
  const deletes = await api.has("delete", "/retained/{topic}").catch(() => false);
  drawer(row.topic, payload, deletes && h("div", { class: "row" }, h("button", { type: "button", class: "danger", onclick: () => drop(row) }, "Delete")));
  try {
    const told = await api.get(`/retained/${api.part(row.topic)}`, {}, { signal: gone });
    const content = told.payload_base64 ? fromBase64(told.payload_base64) : new Uint8Array();
    const known = Array.isArray(told.properties) ? told.properties : Object.entries(told.properties ?? {}).map(([name, value]) => ({ name, value: String(value) }));
    const properties = known.length ? h("ul", { class: "mono" }, ...known.map(({ name, value }) => h("li", {}, `${name} = ${value}`))) : undefined;
    fill(payload,
      facts([["QoS", told.qos ?? row.qos], ["Size", bytes(content.length)], ["Published", time(told.time_ms ?? row.time_ms)], ["Expires", told.expires_ms ? time(told.expires_ms) : undefined], ["Publisher", told.publisher ?? told.client_id], ["Properties", properties]]),
      h("h3", {}, "Payload"), shown(content));
  } catch (error) {
    fill(payload, h("p", { class: "error" }, error.message));
  }
}

async function drop(row) {
  const yes = await confirmed("Delete this retained message?", `${row.topic}: new subscribers will not get it any more.`, "Delete");
  if (!yes) return;
  if (await attempt(() => api.remove(`/retained/${api.part(row.topic)}`), "Deleted.")) {
    closeDrawer();
    list.load();
  }
}

list.load();
