// What is wrong now, in words, from what the node tells. Pure: figures in, sentences out.

import { bytes, count, duration, several } from "./words.js";

/** Lag from which a group without a reader is worth a word. */
const LAG_WORTH = 1;
const DISK_LOW_BYTES = 1024 ** 3;

/** [{ text, bad, to, where }], the worst first. */
export function problems({ status, streams, groups, hooks, mirror, live, unreachable }) {
  if (unreachable) return [{ bad: true, text: `The node does not answer: ${unreachable}.` }];
  if (!status) return [];
  return [
    ...ofNode(status),
    ...(status.problems ?? []).map((one) => (typeof one === "string" ? { bad: true, text: one } : { bad: one.bad ?? true, text: one.text ?? one.detail ?? "" })),
    ...ofLive(live ?? {}),
    ...ofMirror(mirror),
    ...groups.flatMap(ofGroup),
    ...streams.flatMap(ofStream),
    ...hooks.flatMap(ofHook),
  ].sort((a, b) => Number(b.bad) - Number(a.bad));
}

function ofNode(status) {
  const found = [];
  if (status.health === "latched")
    found.push({ bad: true, text: `The log takes no appends until the next start: ${status.why ?? "a write or a flush failed"}.`, to: "/live", where: "Log" });
  else if (status.health && status.health !== "serving")
    found.push({ bad: true, text: `The node is ${status.health}${status.why ? `: ${status.why}` : ""}.` });
  const free = status.disk_free_bytes;
  if (typeof free === "number" && free < DISK_LOW_BYTES)
    found.push({ bad: true, text: `Only ${bytes(free)} are free on the disk of the data directory.`, to: "/streams", where: "Streams" });
  const used = status.journal_bytes ? status.journal_used_bytes / status.journal_bytes : 0;
  if (used > 0.85)
    found.push({ bad: used > 0.95, text: `The journal is ${Math.round(used * 100)} % full: checkpoints do not keep up with what is written.` });
  return found;
}

function ofLive(live) {
  const found = [];
  if (live.dropped > 0)
    found.push({ bad: false, text: `${several(Math.ceil(live.dropped), "message is", "messages are")} dropped each second: some receiver does not get them.`, to: "/clients", where: "Clients" });
  if (live.refused > 0)
    found.push({ bad: true, text: `${several(Math.ceil(live.refused), "append is", "appends are")} refused each second.`, to: "/live", where: "Log" });
  if (live.flush_p99_us > 250000)
    found.push({ bad: false, text: `A flush takes up to ${Math.round(live.flush_p99_us / 1000)} ms: publishers of flush streams wait that long.` });
  return found;
}

function ofMirror(mirror) {
  if (!mirror || !mirror.state || mirror.state === "off" || mirror.state === "connected") return [];
  const since = mirror.since_ms ? ` for ${duration((Date.now() - mirror.since_ms) / 1000)}` : "";
  return [{ bad: !["waiting", "paused"].includes(mirror.state), text: `The mirror is ${mirror.state}${since}${mirror.why ? `: ${mirror.why}` : ""}.`, to: "/mirror", where: "Mirror" }];
}

function ofGroup(group) {
  const lag = typeof group.lag === "number" ? group.lag : (group.offsets ?? []).reduce((sum, one) => sum + (one.lag ?? 0), 0);
  const members = Array.isArray(group.members) ? group.members.length : group.members;
  if (members === 0 && lag >= LAG_WORTH)
    return [{ bad: false, text: `Nobody reads for group ${group.group ?? group.id}, and ${count(lag)} records wait.`, to: "/streams", where: "Groups" }];
  return [];
}

function ofStream(stream) {
  if (stream.internal || stream.ack !== "flush") return [];
  const open = (stream.partitions ?? []).reduce((sum, one) => sum + Math.max(0, one.end - one.flushed), 0);
  return open > 100000
    ? [{ bad: false, text: `${count(open)} records of ${stream.name} wait for a flush.`, to: "/streams", query: { name: stream.name }, where: "Stream" }]
    : [];
}

function ofHook(hook) {
  const name = `${hook.event}${hook.filter ? ` ${hook.filter}` : ""}`;
  if (hook.enabled === false) return [{ bad: false, text: `The hook ${name} is switched off.`, to: "/hooks", where: "Hooks" }];
  return hook.errors > 0 ? [{ bad: false, text: `The hook ${name} has failed ${several(hook.errors, "time")}.`, to: "/hooks", where: "Hooks" }] : [];
}
