// Hooks: what matches, where it goes, how often; enable, disable, reload.

import * as api from "./api.js";
import { $, fill, h, link, say } from "./dom.js";
import { attempt, confirmed, every, gone, why } from "./shell.js";
import { pill, table } from "./table.js";
import { count, rate, several } from "./words.js";

const name = (row) => row.name ?? row.id ?? row.event;
const may = { toggle: false };
let shown = null;

const columns = [
  { title: "Event", mono: true, class: "whole", cell: (row) => row.event },
  { title: "Filter", mono: true, grow: true, cell: (row) => row.filter ?? h("span", { class: "faint" }, "all") },
  { title: "Stream", mono: true, class: "whole", cell: (row) => h("a", { href: link("/streams", { name: row.stream }) }, row.stream) },
  { title: "Key", mono: true, cell: (row) => row.key },
  { title: "Payload", cell: (row) => row.payload },
  { title: "Records", num: true, cell: (row) => count(row.matched) },
  { title: "Now /s", num: true, cell: (row) => rate(row.matched_per_s) },
  { title: "Errors", num: true, cell: (row) => (row.errors > 0 ? h("b", { class: "error", title: "records that the log refused" }, count(row.errors)) : "0") },
  { title: "State", cell: (row) => (row.enabled === false ? pill("off", "warn") : pill("on", "good")) },
  { title: "", class: "end", cell: (row) => may.toggle && h("button", { type: "button", class: "small", "aria-label": `${row.enabled === false ? "Enable" : "Disable"} the hook ${name(row)}`, onclick: () => toggle(row) }, row.enabled === false ? "Enable" : "Disable") },
];

async function load() {
  try {
    const page = await api.get("/hooks", { limit: 1000 }, { signal: gone });
    const { refused_entries: refused } = await api.get("/status", {}, { signal: gone });
    $("refused").hidden = !refused;
    say($("refused"), `The log refused ${several(refused ?? 0, "entry", "entries")} since the start (a full disk, or a log that has failed): publishers were told so, and events are written again.`);
    shown ??= table($("table"), columns, { empty: "No hooks: everything goes to mqtt.default.", key: name });
    shown.show(api.rows(page));
  } catch (error) {
    if (gone.aborted) return;
    shown = null;
    fill($("table"), why(error));
  }
}

async function toggle(row) {
  const on = row.enabled === false;
  if (!on) {
    const where = row.event === "message.publish" ? "What it took goes to mqtt.default instead." : "These events are not written any more.";
    if (!(await confirmed("Disable this hook?", `${row.event} ${row.filter ?? ""} \u2192 ${row.stream}. ${where}`, "Disable"))) return;
  }
  await attempt(() => api.post(`/hooks/${api.part(name(row))}/${on ? "enable" : "disable"}`), on ? "Enabled." : "Disabled.");
  load();
}

$("reload").addEventListener("click", async () => {
  await attempt(() => api.post("/hooks/reload"), "The hooks were read from the file again.");
  load();
});

async function start() {
  try {
    may.toggle = await api.has("post", "/hooks/{name}/disable");
    $("reload").hidden = !(await api.has("post", "/hooks/reload"));
  } catch {
    // Then there are no buttons.
  }
  every(3000, load);
}

start();
