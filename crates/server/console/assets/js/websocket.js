// The WebSocket tool: an MQTT client in the page, by MQTT.js. What others send is shown as text only.

import mqtt from "../vendor/mqtt.js";
import * as api from "./api.js";
import { shown } from "./bytes.js";
import { $, fill, h, say } from "./dom.js";
import { gone, notice } from "./shell.js";
import { pill } from "./table.js";
import { bytes, several, time } from "./words.js";

/** Most messages on the page. */
const KEPT = 200;

// The door lock of the article.
const LOCK = "10083618796833171";
const COMMAND = { topic: `devices/${LOCK}/command`, payload: `{
  "process_id": "7802441525528958",
  "action": "unlock",
  "nonce_str": "u7u4p0n8",
  "ts": 1574744434,
  "sign": "e9f5af7deaa28563"
}` };
const STATE = { topic: `devices/${LOCK}/state`, payload: `{
  "process_id": "7802441525528958",
  "action": "unlock",
  "battery": 83.4,
  "lock_state": 1,
  "version": 1.1,
  "client_id": "${LOCK}"
}` };

const forms = { connect: $("connect"), subscribe: $("subscribe"), publish: $("publish") };
const field = Object.fromEntries(Object.entries(forms).map(([name, form]) => [name, form.elements]));
const state = { client: null, version: 5, subscriptions: new Map(), received: 0, sent: 0 };

/** The words of the state, and what may be done in it. */
function told(text, kind = "", connected = false) {
  $("state").className = `pill ${kind}`;
  say($("state"), text);
  $("do-connect").disabled = state.client !== null;
  $("do-disconnect").disabled = state.client === null;
  for (const name of ["subscribe", "publish"]) forms[name].classList.toggle("waiting", !connected);
}

async function address() {
  const secure = location.protocol === "https:";
  let [port, path] = [secure ? 8084 : 8083, "/mqtt"];
  try {
    const rows = api.rows(await api.get("/listeners", { limit: 1000 }, { signal: gone }));
    const found = rows.find((row) => row.kind === (secure ? "wss" : "ws"));
    const bound = found && String(found.address ?? found.bind).match(/:(\d+)$/);
    if (bound) port = bound[1];
    path = found?.path ?? path;
  } catch {
    // Without an answer the usual port stands there to be changed.
  }
  if (!field.connect.url.value) field.connect.url.value = `${secure ? "wss" : "ws"}://${location.hostname}:${port}${path}`;
}

function options() {
  const connect = field.connect;
  state.version = Number(connect.version.value);
  const five = state.version === 5;
  const options = {
    protocolVersion: state.version,
    clientId: connect.clientId.value,
    username: connect.username.value || undefined,
    password: connect.password.value || undefined,
    keepalive: Number(connect.keepalive.value),
    clean: connect.clean.checked,
    reconnectPeriod: 0,
    connectTimeout: 10000,
    resubscribe: false,
    // A worker from a blob would break the page's policy.
    timerVariant: "native",
    properties: five ? { sessionExpiryInterval: Number(connect.expiry.value) || 0 } : undefined,
  };
  if (connect.willTopic.value) {
    options.will = {
      topic: connect.willTopic.value,
      payload: connect.willPayload.value,
      qos: Number(connect.willQos.value),
      retain: connect.willRetain.checked,
      properties: five && Number(connect.willDelay.value) ? { willDelayInterval: Number(connect.willDelay.value) } : undefined,
    };
  }
  return options;
}

function connect() {
  let client;
  try {
    client = mqtt.connect(field.connect.url.value.trim(), options());
  } catch (error) {
    notice(error.message, "bad");
    return;
  }
  state.client = client;
  let why = "nobody answers at that address";
  told("connecting ...", "warn");
  client.on("connect", (connack) => {
    why = "";
    told(`connected as ${client.options.clientId}`, "good", true);
    event(`Connected${connack.sessionPresent ? ", the session was there" : ""}.`);
  });
  client.on("message", (topic, payload, packet) => message("in", topic, payload, packet));
  client.on("error", (error) => {
    why = error.message || String(error.code ?? "refused");
    client.end(true);
  });
  client.on("disconnect", (packet) => (why = `the node said goodbye, reason 0x${(packet.reasonCode ?? 0).toString(16)}`));
  client.on("close", () => {
    if (state.client !== client) return;
    state.client = null;
    state.subscriptions.clear();
    subscriptions();
    told(why ? "not connected" : "disconnected", why ? "bad" : "");
    event(why ? `Connection ended: ${why}.` : "Connection ended.", why ? "bad" : "");
  });
}

function disconnect() {
  if (state.client && !state.client.connected) return state.client.end(true);
  state.client?.end(false, state.version === 5 ? { reasonCode: 0 } : {});
}

/** The client, if it is connected; else a word. */
function ready() {
  if (state.client?.connected) return state.client;
  notice("Connect first.", "bad");
  return null;
}

function subscribe() {
  const client = ready();
  if (!client) return;
  const filter = field.subscribe.filter.value;
  const qos = Number(field.subscribe.qos.value);
  client.subscribe(filter, { qos, ...(state.version === 5 ? { nl: field.subscribe.nl.checked } : {}) }, (error, granted) => {
    const code = granted?.[0]?.qos;
    if (error || code > 2) {
      notice(`Not subscribed to ${filter}: ${error?.message ?? `reason 0x${code.toString(16)}`}`, "bad");
      return;
    }
    state.subscriptions.set(filter, code ?? qos);
    subscriptions();
    event(`Subscribed to ${filter} with QoS ${code ?? qos}.`);
  });
}

function unsubscribe(filter) {
  const client = ready();
  client?.unsubscribe(filter, (error) => {
    if (error) return notice(`Still subscribed: ${error.message}`, "bad");
    state.subscriptions.delete(filter);
    subscriptions();
    event(`Unsubscribed from ${filter}.`);
  });
}

function subscriptions() {
  fill($("subscriptions"), ...[...state.subscriptions].map(([filter, qos]) =>
    h("li", {}, h("span", { class: "mono" }, filter), pill(`QoS ${qos}`), h("button", { type: "button", class: "quiet small", "aria-label": `Unsubscribe from ${filter}`, onclick: () => unsubscribe(filter) }, "Remove"))));
}

function properties() {
  if (state.version !== 5) return undefined;
  const publish = field.publish;
  const found = {};
  if (publish.contentType.value) found.contentType = publish.contentType.value;
  if (publish.expiry.value) found.messageExpiryInterval = Number(publish.expiry.value);
  if (publish.responseTopic.value) found.responseTopic = publish.responseTopic.value;
  if (publish.correlation.value) found.correlationData = publish.correlation.value;
  if (publish.utf8.checked) found.payloadFormatIndicator = true;
  const lines = publish.userProperties.value.split("\n").filter((line) => line.includes("="));
  if (lines.length) {
    found.userProperties = Object.create(null);
    for (const line of lines) {
      const at = line.indexOf("=");
      const name = line.slice(0, at).trim();
      (found.userProperties[name] ??= []).push(line.slice(at + 1).trim());
    }
  }
  return Object.keys(found).length ? found : undefined;
}

function publish() {
  const client = ready();
  if (!client) return;
  const { topic, payload, qos, retain } = field.publish;
  const packet = { qos: Number(qos.value), retain: retain.checked, properties: properties() };
  const started = performance.now();
  const line = message("out", topic.value, new TextEncoder().encode(payload.value), packet);
  client.publish(topic.value, payload.value, packet, (error, answer) => {
    const ms = Math.max(1, Math.round(performance.now() - started));
    const code = answer?.reasonCode ?? 0;
    if (error || code >= 0x80) line.say(`refused: ${error?.message ?? `0x${code.toString(16)}`}`, "bad");
    else if (packet.qos === 0) line.say("sent", "");
    else line.say(`${packet.qos === 1 ? "PUBACK" : "PUBCOMP"} in ${ms} ms${code === 0x10 ? ", no subscribers" : ""}`, "good");
  });
}

function message(direction, topic, payload, packet) {
  const inward = direction === "in";
  inward ? (state.received += 1) : (state.sent += 1);
  const answer = h("span", { class: "answer" }, inward ? null : pill("sending ...", "warn"));
  const known = packet.properties ? propertyWords(packet.properties) : [];
  const item = h("li", { class: `message ${direction}` },
    h("div", { class: "message-head" },
      pill(inward ? "\u2193 received" : "\u2191 published", inward ? "good" : "own"),
      h("span", { class: "mono topic" }, topic),
      h("span", { class: "chips" }, pill(`QoS ${packet.qos}`), packet.retain && pill("retained"), packet.dup && pill("again", "warn"), answer),
      time(Date.now(), { withMillis: true, short: true })),
    shown(payload),
    known.length > 0 && h("p", { class: "faint mono props" }, known.join("  ")),
    h("p", { class: "faint size" }, bytes(payload.length)));
  put(item);
  say($("messages-count"), `${several(state.received, "message")} received, ${state.sent} published`);
  return { say: (text, kind) => fill(answer, pill(text, kind)) };
}

function propertyWords(found) {
  return Object.entries(found).flatMap(([name, value]) => {
    if (name === "userProperties") return Object.entries(value).map(([key, one]) => `${key}=${[one].flat().join(",")}`);
    return [`${name}: ${value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value)}`];
  });
}

function event(text, kind = "") {
  put(h("li", { class: `event ${kind}` }, h("span", {}, text), time(Date.now(), { withMillis: true, short: true })));
}

function put(item) {
  $("messages").prepend(item);
  while ($("messages").childElementCount > KEPT) $("messages").lastElementChild.remove();
}

/** The article's door lock: client, subscription, and both messages at hand. */
function lock() {
  if (!state.client) {
    field.connect.clientId.value = LOCK;
    field.connect.version.value = "5";
    versions();
  }
  field.subscribe.filter.value = COMMAND.topic;
  field.subscribe.qos.value = "1";
  preset(COMMAND);
  $("presets").hidden = false;
}

function preset({ topic, payload }) {
  field.publish.topic.value = topic;
  field.publish.payload.value = payload;
  field.publish.qos.value = "1";
  field.publish.retain.checked = false;
}

function versions() {
  const five = field.connect.version.value === "5";
  for (const one of document.querySelectorAll(".v5")) one.hidden = !five;
}

function on(form, deed) {
  form.addEventListener("submit", (event) => (event.preventDefault(), deed()));
}

on(forms.connect, connect);
on(forms.subscribe, subscribe);
on(forms.publish, publish);
field.connect.version.addEventListener("change", versions);
$("do-disconnect").addEventListener("click", disconnect);
$("fill").addEventListener("click", lock);
$("preset-command").addEventListener("click", () => preset(COMMAND));
$("preset-state").addEventListener("click", () => preset(STATE));
$("clear").addEventListener("click", () => {
  state.received = state.sent = 0;
  fill($("messages"));
  say($("messages-count"), "none yet");
});
gone.addEventListener("abort", () => state.client?.end(true));
field.connect.clientId.value = `console-${Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
versions();
told("not connected");
address();
