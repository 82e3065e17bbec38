// Users, bans, tokens, and who changed what.

import * as api from "./api.js";
import { $, copier, fill, h } from "./dom.js";
import { attempt, confirmed, gone, notice, why } from "./shell.js";
import { paged, pill, table } from "./table.js";
import { time } from "./words.js";

/** A list with a remove button in each row. */
function list(place, path, columns, { empty, named, verb, sure, at = (row) => `${path}/${api.part(named(row))}` }) {
  const all = [...columns, {
    title: "", class: "end", cell: (row) => h("button", { type: "button", class: "small", "aria-label": `${verb} ${named(row)}`, onclick: () => drop(row) }, verb),
  }];
  const shown = paged(place, path, all, { empty, limit: 200 });
  async function drop(row) {
    if (!(await confirmed(`${verb} ${named(row)}?`, sure, verb))) return;
    if (await attempt(() => api.remove(at(row)), "Done.")) shown.load();
  }
  shown.load();
  return shown.load;
}

const mechanisms = (row) => (row.mechanisms ?? row.credentials ?? []).map?.((one) => pill(typeof one === "string" ? one : one.mechanism)) ?? [];

const users = list($("users"), "/users", [
  { title: "Name", mono: true, grow: true, cell: (row) => row.name },
  { title: "Can log in by", class: "whole", cell: (row) => h("span", { class: "chips" }, ...mechanisms(row)) },
  { title: "Changed", cell: (row) => time(row.changed_ms ?? row.updated_ms, { short: true }) },
], { empty: "No users: nobody is asked who they are, and listeners are on loopback only.", named: (row) => row.name, verb: "Delete", sure: "It cannot log in any more, and the MQTT connections that it has are ended." });

let bans = () => {};

const tokens = list($("tokens"), "/tokens", [
  { title: "Name", mono: true, grow: true, cell: (row) => row.name },
  { title: "Role", cell: (row) => pill(row.role) },
  { title: "Created", cell: (row) => time(row.created_ms, { short: true }) },
  { title: "Expires", cell: (row) => (row.expires_ms ? time(row.expires_ms) : "never") },
], { empty: "No tokens: the console and the API are open on loopback.", named: (row) => row.name, verb: "Revoke", sure: "Whoever uses it is refused from now on.", at: (row) => `/tokens/${api.part(row.id ?? row.name)}` });

function added(form, deed) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(form));
    if (await attempt(() => deed(given))) form.reset();
  });
}

added($("user-form"), async ({ name, password }) => {
  if (!api.token.get()) {
    const yes = await confirmed("Add the first user?", "From its first user on, the node asks every caller of its API for a token. Create one with the role admin below first, or take the node's own from admin.token in its data directory.", "Add");
    if (!yes) throw new Error("Not added.");
  }
  try {
    await api.post("/users", { name, password });
    notice("Added.");
  } catch (error) {
    if (error.status !== 409) throw error;
    const yes = await confirmed(`Change the password of ${name}?`, "There is a user of that name. The MQTT connections that it has are ended.", "Change");
    if (!yes) throw new Error("Not changed.");
    await api.put(`/users/${api.part(name)}`, { password });
    notice("Changed.");
  }
  users();
});
added($("token-form"), async ({ name, role, for: days }) => {
  const open = !api.token.get();
  if (open && role !== "admin") throw new Error("From its first token on, the node asks everyone for one: make one with the role admin first.");
  const told = await api.post("/tokens", { name, role, lifetime_ms: days ? Number(days) * 86400000 : undefined });
  if (open) api.token.set(told.token);
  $("token").hidden = false;
  fill($("token"), "Shown once, keep it now: ", h("code", {}, told.token), " ", copier(told.token));
  tokens();
});

async function audit() {
  try {
    const rows = api.rows(await api.get("/audit", { offset: -50, limit: 50 }, { signal: gone })).toReversed();
    table($("audit"), [
      { title: "When", cell: (row) => time(row.time_ms ?? row.time, { short: true }) },
      { title: "Who", mono: true, cell: (row) => h("span", { title: row.peer ?? "" }, row.by || "anyone on this machine") },
      { title: "What", grow: true, mono: true, cell: (row) => [`${row.method ?? ""} ${row.path ?? ""}`.trim(), row.what && h("span", { class: "faint" }, ` ${row.what}`)] },
      { title: "Outcome", cell: (row) => (row.status < 400 ? pill("done", "good") : pill(`refused ${row.status}`, "warn")) },
    ], { empty: "Nothing was changed over the API yet." }).show(rows);
  } catch (error) {
    if (!gone.aborted) fill($("audit"), why(error));
  }
}
audit();

async function banning() {
  if (!(await api.has("get", "/bans"))) return;
  $("bans-section").hidden = false;
  bans = list($("bans"), "/bans", [
    { title: "What", cell: (row) => String(row.kind).replace("_", " ") },
    { title: "Which", mono: true, grow: true, cell: (row) => row.value ?? row.who },
    { title: "Reason", cell: (row) => row.reason ?? "" },
    { title: "Until", cell: (row) => (row.until_ms ?? row.until ? time(row.until_ms ?? row.until) : "ever") },
  ], { empty: "Nobody is banned.", named: (row) => row.value ?? row.who, verb: "Lift", sure: "It may connect again.", at: (row) => `/bans/${row.id !== undefined ? api.part(row.id) : `${api.part(row.kind)}/${api.part(row.value)}`}` });
  added($("ban-form"), async ({ kind, value, for: seconds, reason }) => {
    await api.post("/bans", { kind, value, reason: reason || undefined, until_ms: seconds ? Date.now() + Number(seconds) * 1000 : undefined });
    notice("Banned.");
    bans();
  });
}

banning().catch(() => {});
