// Streams and their records: list, settings, groups with lag, a viewer by partition, offset, time, key
// and text, and a live tail that says how many records it skipped.

import * as api from "./api.js";
import { $, fill, h, link, say } from "./dom.js";
import { record } from "./record.js";
import { attempt, every, gone, why } from "./shell.js";
import { card, paged, pill, table } from "./table.js";
import { bytes, count, instant, millis, several, short, time } from "./words.js";

/** How far back "the latest" looks for a key or a text, in records of each partition. */
const LATEST = 20000;
/** Most records that the tail keeps on the page. */
const KEPT = 200;
const name = new URLSearchParams(location.search).get("name");
const sum = (rows, of) => rows.reduce((total, row) => total + (of(row) ?? 0), 0);
const faint = (text) => h("span", { class: "faint" }, text);

if (name === null) list();
else one(name);

function list() {
  const streams = table($("table"), [
    { title: "Stream", mono: true, grow: true, sort: (row) => row.name, cell: (row) => h("a", { href: link("/streams", { name: row.name }) }, row.name) },
    { title: "Records", num: true, sort: (row) => row.records, cell: (row) => count(row.records) },
    { title: "Size", num: true, sort: (row) => row.size_bytes, cell: (row) => bytes(row.size_bytes) },
    { title: "Partitions", num: true, cell: (row) => row.partitions?.length ?? row.partitions },
    { title: "Answered when", class: "whole", cell: (row) => ackWords(row) },
    { title: "Kept", class: "whole", cell: (row) => kept(row) },
    { title: "", cell: (row) => h("span", { class: "chips" }, row.internal && pill("internal"), row.compaction && pill("compacted"), row.storage === "memory" && pill("memory", "warn")) },
  ], { empty: "No streams yet.", key: (row) => row.name, onrow: (row) => (location.href = link("/streams", { name: row.name })) });
  const groups = paged($("groups-table"), "/groups", groupColumns(), groupWords());
  const kafka = paged($("kafka-table"), "/kafka", [
    { title: "Client", mono: true, grow: true, cell: (row) => row.client_id || faint("-") },
    { title: "Address", mono: true, class: "whole", cell: (row) => row.peer },
    { title: "Who", mono: true, cell: (row) => row.principal },
    { title: "Library", cell: (row) => [row.software_name, row.software_version].filter(Boolean).join(" ") || faint("-") },
    { title: "Requests", num: true, sort: (row) => row.requests, cell: (row) => count(row.requests) },
    { title: "Not answered", num: true, sort: (row) => row.outstanding, cell: (row) => count(row.outstanding) },
    { title: "Since", cell: (row) => time(row.connected_ms, { short: true }) },
  ], { empty: "No Kafka client is connected.", key: (row) => row.id });
  let all = [];
  const show = () => {
    const shown = all.filter((row) => $("internal").checked || !row.internal);
    streams.show(shown);
    say($("count"), `${several(shown.length, "stream")}, ${bytes(sum(shown, (row) => row.size_bytes))}`);
  };
  $("internal").addEventListener("change", show);
  every(3000, async () => {
    try {
      all = api.rows(await api.get("/streams", { limit: 1000 }, { signal: gone }));
      show();
      groups.again();
      kafka.again();
    } catch (error) {
      if (!gone.aborted) say($("count"), error.message);
    }
  });
}

function ackWords(row) {
  const words = { memory: "at once, kept in memory", append: "appended", flush: "flushed to disk", kafka: "in the real cluster" };
  return h("span", { title: `ack = "${row.ack}"` }, words[row.ack] ?? row.ack);
}

function kept(row) {
  const age = row.retention_ms === null || row.retention_ms === undefined ? "for ever" : millis(row.retention_ms);
  return row.retention_bytes ? `${age}, ${bytes(row.retention_bytes)} a partition` : age;
}

function groupColumns(only) {
  const offsets = (row) => (row.offsets ?? []).filter((one) => !only || one.stream === only);
  const lag = (row) => (row.offsets ? sum(offsets(row), (one) => one.lag) : row.lag);
  return [
    { title: "Group", mono: true, grow: true, cell: (row) => row.group ?? row.id },
    { title: "State", cell: (row) => pill(row.state ?? "-", row.state === "Stable" ? "good" : row.state === "Empty" ? "" : "warn") },
    { title: "Members", num: true, cell: (row) => (Array.isArray(row.members) ? h("span", { title: row.members.map((one) => `${one.client_id} ${one.host}`).join("\n") }, count(row.members.length)) : count(row.members)) },
    { title: only ? "Committed" : "Streams", mono: true, class: "whole", cell: (row) => (only ? offsets(row).map((one) => `${one.partition}: ${one.committed}`).join("  ") : [...new Set(offsets(row).map((one) => one.stream))].join(", ")) },
    { title: "Lag", num: true, sort: lag, cell: (row) => (lag(row) > 0 ? h("b", {}, count(lag(row))) : "0") },
    { title: "Committed at", cell: (row) => time(Math.max(0, ...offsets(row).map((one) => one.committed_ms ?? 0)), { short: true }) },
  ];
}

function groupWords(only) {
  return {
    empty: only ? "No consumer group has committed an offset here." : "No consumer group yet: a Kafka client makes one by reading.",
    key: (row) => row.group ?? row.id,
  };
}

function one(stream) {
  $("list").hidden = true;
  $("one").hidden = false;
  document.title = `${stream} - Sluice`;
  say($("name"), stream);
  const partitions = table($("partitions"), [
    { title: "Partition", num: true, cell: (row) => row.number },
    { title: "Log start", num: true, cell: (row) => count(row.log_start) },
    { title: "End", num: true, cell: (row) => count(row.end) },
    { title: "Flushed", num: true, cell: (row) => count(row.flushed) },
    { title: "Mirrored", num: true, cell: (row) => (row.mirrored === undefined || row.mirrored === null ? faint("-") : count(row.mirrored)) },
    { title: "Size", num: true, cell: (row) => bytes(row.size_bytes) },
  ]);
  const readers = table($("readers"), groupColumns(stream), groupWords(stream));
  const look = async () => {
    try {
      const row = await api.get(`/streams/${api.part(stream)}`, {}, { signal: gone });
      const parts = row.partitions.map((part, number) => ({ number: part.partition ?? number, ...part }));
      facts(row, parts);
      partitions.show(parts);
      choices(parts.length);
      const groups = api.rows(await api.get("/groups", { limit: 1000 }, { signal: gone }));
      readers.show(groups.filter((group) => (group.offsets ?? []).some((offset) => offset.stream === stream)));
    } catch (error) {
      if (!gone.aborted) fill($("facts"), why(error));
    }
  };
  every(3000, look);
  viewer(stream);
}

function facts(row, parts) {
  fill($("chips"), row.internal && pill("internal"), row.compaction && pill("compacted"), row.storage === "memory" && pill("memory", "warn"));
  const unflushed = sum(parts, (part) => Math.max(0, part.end - part.flushed));
  fill($("facts"),
    card("Records", short(row.records ?? sum(parts, (part) => part.end - part.log_start))),
    card("Size", bytes(row.size_bytes ?? sum(parts, (part) => part.size_bytes))),
    card("Partitions", count(parts.length)),
    card("Answered when", ackWords(row), `ack = ${row.ack}`),
    card("Kept", kept(row), row.storage === "memory" ? "in memory" : "on disk"),
    card("Not flushed", count(unflushed)));
}

function choices(number) {
  const select = $("viewer").elements.partition;
  if (select.options.length === number + 1) return;
  const before = select.value || new URLSearchParams(location.search).get("partition") || "";
  fill(select, h("option", { value: "" }, "all"), ...Array.from({ length: number }, (_, at) => h("option", { value: at }, at)));
  select.value = before;
}

function viewer(stream) {
  const form = $("viewer");
  const field = form.elements;
  const state = { shown: [], next: null, tail: null, skipped: 0, turn: 0 };
  const path = `/streams/${api.part(stream)}`;

  function kinds() {
    for (const label of form.querySelectorAll("[class^=when-]")) label.hidden = label.className !== `when-${field.from.value}`;
  }

  function asked() {
    const query = { partition: field.partition.value, key: field.key.value, text: field.text.value, limit: Number(field.limit.value) };
    const filtered = query.key !== "" || query.text !== "";
    if (field.from.value === "offset") query.offset = field.offset.value || "0";
    if (field.from.value === "time" && field.time.value) query.time_ms = new Date(field.time.value).getTime();
    if (field.from.value === "latest") {
      // Counted from the end in each partition; which of them are the newest is told by their time.
      const parts = query.partition === "" ? Math.max(1, field.partition.options.length - 1) : 1;
      query.offset = filtered ? -LATEST : -query.limit;
      query.limit = filtered ? 1000 : Math.min(1000, query.limit * parts);
    }
    return query;
  }

  async function read(cursor) {
    stop();
    state.turn += 1;
    const mine = state.turn;
    const latest = field.from.value === "latest";
    say($("shown"), "reading ...");
    try {
      const { rows, next } = await pages(cursor, latest, mine);
      if (mine !== state.turn) return;
      state.shown = cursor ? [...state.shown, ...rows] : rows;
      if (latest) state.shown = state.shown.toSorted((a, b) => order(b) - order(a) || b.offset - a.offset).slice(0, Number(field.limit.value));
      state.next = latest ? null : next;
      draw();
      const filtered = field.key.value || field.text.value;
      say($("shown"), `${several(state.shown.length, "record")}${latest && filtered ? `, of the last ${count(LATEST)} of each partition` : ""}`);
    } catch (error) {
      if (gone.aborted || mine !== state.turn) return;
      say($("shown"), "");
      $("more-records").hidden = true;
      fill($("records-list"), h("p", { class: "error" }, error.message));
    }
  }

  /** A page that shows something, or the last: a page of a search may be empty, and another follows. */
  async function pages(cursor, latest, mine) {
    let rows = [];
    const enough = latest ? Infinity : Number(field.limit.value);
    const query = asked();
    for (let turn = 0; turn < 40 && mine === state.turn; turn += 1) {
      const from = cursor ? { offset: undefined, time_ms: undefined, cursor } : {};
      const page = await api.get(`${path}/records`, { ...query, ...from, limit: Math.min(query.limit, enough - rows.length) }, { signal: gone });
      const found = api.rows(page);
      rows = [...rows, ...found];
      cursor = page.next;
      const filtered = query.key !== "" || query.text !== "";
      if (!cursor || rows.length >= (filtered && latest ? LATEST : Math.min(enough, query.limit)) || (!filtered && !found.length)) break;
    }
    return { rows, next: cursor };
  }

  const order = (row) => instant(row.time_ms ?? row.time) ?? 0;

  function draw() {
    $("more-records").hidden = !state.next;
    fill($("records-list"), ...(state.shown.length ? state.shown.map(record) : [h("p", { class: "empty" }, "No records match.")]));
  }

  function follow() {
    const stopper = new AbortController();
    state.tail = stopper;
    state.skipped = 0;
    state.shown = [];
    $("more-records").hidden = true;
    pressed(true);
    fill($("records-list"), h("p", { class: "empty" }, "Waiting for records ..."));
    say($("shown"), "following live");
    gone.addEventListener("abort", () => stopper.abort(), { once: true });
    const { partition, key, text } = asked();
    api.follow(`${path}/tail`, { partition, key, text }, {
      signal: stopper.signal,
      broken: (text) => {
        if (text) say($("shown"), `the tail broke: ${text}`);
        else if (state.tail) say($("shown"), "following live");
      },
      on: (event, told) => {
        if (event === "skipped") return skip(told.count ?? told.skipped ?? told);
        const rows = api.rows(told);
        if (rows.length) add(rows);
      },
    });
  }

  function skip(number) {
    state.skipped += Number(number) || 0;
    $("skipped").hidden = state.skipped === 0;
    say($("skipped"), `Faster than this page can show: ${several(state.skipped, "record was", "records were")} skipped.`);
  }

  function add(rows) {
    if (!state.shown.length) fill($("records-list"));
    state.shown = [...rows.toReversed(), ...state.shown].slice(0, KEPT);
    for (const row of rows) $("records-list").prepend(record(row));
    while ($("records-list").childElementCount > KEPT) $("records-list").lastElementChild.remove();
    say($("shown"), `following live, the last ${several(state.shown.length, "record")}`);
  }

  function pressed(on) {
    $("tail").setAttribute("aria-pressed", String(on));
    $("tail").textContent = on ? "Stop following" : "Follow live";
    $("skipped").hidden = true;
  }

  function stop() {
    state.tail?.abort();
    state.tail = null;
    pressed(false);
  }

  field.from.addEventListener("change", kinds);
  form.addEventListener("submit", (event) => (event.preventDefault(), read()));
  $("more-records").addEventListener("click", () => read(state.next));
  $("tail").addEventListener("click", () => (state.tail ? (stop(), attempt(() => read())) : follow()));
  const given = new URLSearchParams(location.search);
  for (const one of ["offset", "key", "text"]) field[one].value = given.get(one) ?? "";
  if (given.has("offset")) field.from.value = "offset";
  kinds();
  read();
}
