// The pictures of the documents: a node under traffic for some minutes, mirrored into another, with
// readers of which one is slow; then every page, wide and narrow, light and dark.
// SLUICE_CONSOLE_SHOTS=FOLDER node pictures.mjs SECONDS [PAGE,...]

import { Kafka, logLevel } from "kafkajs";

import { client, launch, look, says, shot, startNode, stopNode } from "./harness.mjs";

const LOCK = "10083618796833171";
const DAY_MS = 86400000;
const COMMAND = '{"process_id":"7802441525528958","action":"unlock","nonce_str":"u7u4p0n8","ts":1574744434,"sign":"e9f5af7deaa28563"}';
const [SECONDS, ONLY] = [Number(process.argv[2] ?? 360), process.argv[3]?.split(",")];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const behind = await startNode();
const node = await startNode(`
[mirror]
brokers = "127.0.0.1:${behind.ports.kafka}"
`);
let token = null;

async function ask(method, path, body) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(`${node.base}/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
  return answer.json();
}

const locks = [];
const away = [];

/** Sixty locks that are there, four that are not, and what they keep. */
async function devices() {
  for (let number = 0; number < 60; number += 1) {
    const id = String(BigInt(LOCK) + BigInt(number + 1));
    const will = { topic: `devices/${id}/state`, payload: '{"online":false}', qos: 1 };
    const lock = await client(node, id, { username: number % 7 ? undefined : "installer", properties: { sessionExpiryInterval: 3600 }, will });
    await lock.subscribeAsync(`devices/${id}/command`, { qos: 1 });
    if (number % 3 === 0) await lock.subscribeAsync(`firmware/${number % 2 ? "deadbolt" : "latch"}/#`, { qos: 1, nl: number % 2 === 0 });
    await lock.publishAsync(`devices/${id}/config`, JSON.stringify({ volume: number % 10, night: number % 2 === 0, auto_lock_s: 30 + number }), { qos: 1, retain: true });
    locks.push([id, lock]);
  }
  for (let number = 0; number < 4; number += 1) {
    const id = String(BigInt(LOCK) + BigInt(number + 200));
    const lock = await client(node, id, { clean: false, properties: { sessionExpiryInterval: 86400 } });
    await lock.subscribeAsync(`devices/${id}/command`, { qos: 1 });
    await lock.endAsync();
    away.push(id);
  }
}

/** Three business systems; the audit takes its time. */
async function readers() {
  const kafka = new Kafka({ brokers: [`127.0.0.1:${node.ports.kafka}`], logLevel: logLevel.NOTHING });
  for (const [groupId, topics, wait] of [["notification", ["message_state", "message_command"], 0], ["security-audit", ["message_state", "message_command"], 300], ["statistics", ["message_state"], 0]]) {
    const consumer = kafka.consumer({ groupId, clientId: groupId });
    await consumer.connect();
    await consumer.subscribe({ topics, fromBeginning: true });
    consumer.run({
      autoCommitInterval: 1000,
      eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
        resolveOffset(batch.lastOffset());
        await heartbeat();
        if (wait) await pause(wait);
      },
    });
  }
}

/** A hundred messages a second, more or less. */
function traffic(service) {
  const start = Date.now();
  let sent = 0;
  return setInterval(() => {
    const seconds = (Date.now() - start) / 1000;
    const pace = 70 + 38 * Math.sin(seconds / 55) + 14 * Math.sin(seconds / 13) + Math.random() * 10;
    for (let now = 0; now < pace / 10; now += 1) {
      const [id, lock] = locks[sent % locks.length];
      sent += 1;
      const state = { process_id: "7802441525528958", action: sent % 2 ? "unlock" : "lock", battery: (834 - (sent % 400)) / 10, lock_state: sent % 2, version: 1.1, client_id: id };
      lock.publish(`devices/${id}/state`, JSON.stringify(state), { qos: 1 });
      if (sent % 4 === 0) service.publish(`devices/${locks[(sent * 7) % locks.length][0]}/command`, COMMAND, { qos: 1 });
    }
  }, 100);
}

/** From the first token on every page asks for one: the last pages. */
async function keys() {
  if (token) return;
  token = (await ask("POST", "/tokens", { name: "operations", role: "admin" })).token;
  await ask("POST", "/tokens", { name: "grafana", role: "viewer" });
  await ask("POST", "/tokens", { name: "night shift", role: "operator", lifetime_ms: 30 * DAY_MS });
  await ask("POST", "/users", { name: "installer", password: "a long password" });
  await ask("POST", "/users", { name: "business-system", password: "another long one" });
}

/** What is done on a page before its picture is taken. */
const before = {
  overview: (page) => page.waitForTimeout(3000),
  clients: (page) => says(page, "td", locks[0][0]),
  client: (page) => page.getByRole("button", { name: locks[3][0] }).click(),
  stream: (page) => page.locator(".record summary").first().click(),
  websocket: async (page) => {
    await page.getByRole("button", { name: "Fill in the door lock" }).click();
    await page.waitForFunction(() => document.querySelector("#connect [name=url]").value !== "");
    await page.getByRole("button", { name: "Connect", exact: true }).click();
    await says(page, "#state", `connected as ${LOCK}`);
    await page.getByRole("button", { name: "Subscribe", exact: true }).click();
    await says(page, "#subscriptions", `devices/${LOCK}/command`);
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await says(page, ".message.in", "e9f5af7deaa28563");
    await page.getByRole("button", { name: "Status" }).click();
    await page.getByRole("button", { name: "Publish", exact: true }).click();
  },
  trace: async (page) => {
    await page.locator("[name=client]").first().fill(locks[5][0]);
    await page.getByRole("button", { name: "Trace", exact: true }).click();
    await page.waitForTimeout(5000);
  },
  access: async (page) => {
    await page.locator("#login-token").fill(token);
    await page.keyboard.press("Enter");
    await says(page, "#tokens td", "operations");
  },
};

await devices();
await readers();
const service = await client(node, "unlock-service");
for (const id of away) for (let number = 0; number < 3; number += 1) await service.publishAsync(`devices/${id}/command`, COMMAND, { qos: 1 });
await ask("POST", "/bans", { kind: "address", value: "203.0.113.0/24", reason: "scans" });
await ask("POST", "/bans", { kind: "client_id", value: "10083618796833999", reason: "stolen", until_ms: Date.now() + DAY_MS });
const running = traffic(service);
await pause(SECONDS * 1000);

const browser = await launch();
const pages = { overview: "/", clients: "/clients", client: `/clients?filter=${locks[3][0]}`, subscriptions: "/subscriptions", retained: "/retained", streams: "/streams", stream: "/streams?name=message_state", hooks: "/hooks", mirror: "/mirror", websocket: "/websocket", live: "/live", trace: "/live?tab=trace", settings: "/settings", access: "/access" };
for (const [name, path] of Object.entries(pages)) {
  if (ONLY && !ONLY.includes(name)) continue;
  if (name === "access") await keys();
  for (const [width, height, colorScheme] of [[1440, 900, "light"], [390, 844, "light"], [1440, 900, "dark"], [390, 844, "dark"]]) {
    if (colorScheme === "dark" && !["overview", "stream", "websocket"].includes(name)) continue;
    const page = await look(browser, node, path, { width, height, colorScheme, expected: ["401"] });
    await page.waitForTimeout(1200);
    await before[name]?.(page);
    await page.waitForTimeout(500);
    await shot(page, `${name}-${width}${colorScheme === "dark" ? "-dark" : ""}`);
    await page.done();
  }
}
clearInterval(running);
await browser.close();
await stopNode(node);
await stopNode(behind);
process.exit(0);
