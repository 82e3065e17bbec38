// The configuration as in force, table by table, with a search.

import * as api from "./api.js";
import { $, copier, fill, h } from "./dom.js";
import { gone, why } from "./shell.js";
import { pill, table } from "./table.js";
import { count } from "./words.js";

async function listeners() {
  try {
    const rows = api.rows(await api.get("/listeners", { limit: 1000 }, { signal: gone }));
    table($("listeners"), [
      { title: "Address", mono: true, grow: true, cell: (row) => row.bind },
      { title: "Kind", cell: (row) => pill(row.kind) },
      ...(rows.some(named) ? [{ title: "Name", mono: true, cell: (row) => (named(row) ? row.name : "") }] : []),
      { title: "Who may come in", class: "whole", cell: who },
      { title: "TLS", cell: (row) => (row.tls ? pill("TLS", "good") : h("span", { class: "faint" }, "no")) },
      { title: "Connections", num: true, cell: (row) => count(row.connections) },
    ], { empty: "No listeners." }).show(rows);
  } catch (error) {
    if (!gone.aborted) fill($("listeners"), why(error));
  }
}

/** Whether the configuration gives a listener a name. */
const named = (row) => row.name !== `${row.kind}:${row.bind}`;

/** Who may come in by a listener, in words. */
function who(row) {
  // Without a token this page is only there while everyone on this machine may come in.
  if (row.kind === "http" && !api.token.get()) return "anyone on this machine, until there are users or tokens";
  if (row.authentication && row.authentication !== "none") return row.authentication;
  return row.anonymous ? "anyone" : "anyone on this machine";
}

async function configuration() {
  try {
    const told = await api.get("/config", {}, { signal: gone });
    const text = typeof told === "string" ? told : (told.toml ?? null);
    const parts = text === null ? ofTree(told.config ?? told.settings ?? told) : ofToml(text);
    const boxes = parts.map(({ title, lines }) => {
      const body = h("table", { class: "keys-table" }, h("tbody", {}, ...lines.map(([name, value, note]) =>
        h("tr", { "data-find": `${title} ${name} ${value}`.toLowerCase() }, h("th", { scope: "row", class: "mono" }, name), h("td", { class: "mono" }, value, note && h("span", { class: "faint" }, ` ${note}`))))));
      return h("section", { class: "panel part" }, h("h3", { class: "mono" }, title), body);
    });
    if (text !== null) fill($("copy"), copier(text, "Copy as TOML"));
    fill($("config"), h("div", { class: "settings" }, ...boxes));
    find();
  } catch (error) {
    if (!gone.aborted) fill($("config"), why(error));
  }
}

/** Tables of TOML text, as lines of name and value. */
function ofToml(text) {
  const parts = [{ title: "top", lines: [] }];
  for (const line of text.split("\n")) {
    const head = line.match(/^\s*(\[\[?.+?\]\]?)\s*$/);
    const pair = line.match(/^\s*("[^"]*"|[\w.-]+)\s*=\s*(.*)$/);
    if (head) parts.push({ title: head[1], lines: [] });
    else if (pair) parts.at(-1).lines.push([pair[1], pair[2].replace(/\s+#[^"\]]*$/, "")]);
    else if (line.trim() && !line.trim().startsWith("#")) {
      const last = parts.at(-1).lines.at(-1);
      if (last) last[1] += `\n${line}`;
    }
  }
  return parts.filter((part) => part.lines.length);
}

/** The same of a tree of JSON. */
function ofTree(tree) {
  const parts = [];
  const leaf = (value) => value === null || typeof value !== "object" || (Array.isArray(value) && !value.some((one) => one && typeof one === "object"));
  const walk = (title, value) => {
    const lines = Object.entries(value).filter(([, one]) => leaf(one)).map(([name, one]) => [name, one === null ? "none" : JSON.stringify(one)]);
    if (lines.length) parts.push({ title: title || "top", lines });
    for (const [name, one] of Object.entries(value)) {
      if (leaf(one)) continue;
      if (Array.isArray(one)) one.forEach((row) => walk(`${title ? `${title}.` : ""}${name}[]`, row && typeof row === "object" ? row : { value: row }));
      else walk(`${title ? `${title}.` : ""}${name}`, one);
    }
  };
  walk("", tree);
  return parts;
}

function find() {
  const text = $("find").value.trim().toLowerCase();
  for (const box of document.querySelectorAll(".part")) {
    let any = false;
    for (const row of box.querySelectorAll("tr")) {
      row.hidden = text !== "" && !row.dataset.find.includes(text);
      any ||= !row.hidden;
    }
    box.hidden = !any;
  }
}

$("find").addEventListener("input", find);
listeners();
configuration();
