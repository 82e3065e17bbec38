// Who subscribed to what.

import { $, h, link } from "./dom.js";
import { filters, paged } from "./table.js";
import { count } from "./words.js";

const RETAIN = ["send retained", "send if new", "do not send retained"];
const query = filters($("filters"), () => list.load());
const yes = (value, word) => (value ? h("span", { class: "pill" }, word) : null);

/** The options of a subscription; "": it has none. */
function options(row) {
  const found = [yes(row.no_local, "no local"), yes(row.retain_as_published, "retain as published"), yes(row.retain_handling, RETAIN[row.retain_handling])].filter(Boolean);
  return found.length ? h("span", { class: "chips" }, ...found) : "";
}

const list = paged($("table"), "/subscriptions", [
  { title: "Filter", mono: true, grow: true, cell: (row) => row.filter },
  { title: "Client id", mono: true, class: "whole", cell: (row) => h("a", { href: link("/clients", { filter: row.client_id }) }, row.client_id) },
  { title: "QoS", num: true, cell: (row) => row.qos },
  { title: "Share", mono: true, cell: (row) => row.share ?? "" },
  { title: "Options", class: "whole", cell: options },
  { title: "Id", num: true, cell: (row) => (row.id ?? row.subscription_id ? count(row.id ?? row.subscription_id) : "") },
], { query, count: $("count"), one: "subscription", empty: "No subscription matches." });

list.load();
