// The console in Chromium against the real program.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Kafka, logLevel } from "kafkajs";

import { BINARY, certificate, client, launch, look, says, startNode, stopNode } from "./harness.mjs";

const LOCK = "10083618796833171";
const MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';
const PAGES = ["/", "/clients", "/subscriptions", "/retained", "/streams", "/streams?name=message_state", "/hooks", "/mirror",
  "/websocket", "/live", "/live?tab=trace", "/access", "/settings"];

/** Clients of the crowded node; none: that test is left out. */
const MANY = Number(process.env.SLUICE_CONSOLE_MANY ?? 15000);

let node;
let browser;
let kafka;

before(async () => {
  [node, browser] = await Promise.all([startNode(), launch()]);
  kafka = new Kafka({ brokers: [`127.0.0.1:${node.ports.kafka}`], logLevel: logLevel.NOTHING });
  await seed();
});

after(async () => {
  await browser?.close();
  if (node) await stopNode(node);
});

/** Locks that report, one with a session but no connection, retained messages, a group that lags. */
async function seed() {
  const evil = await client(node, MARKUP, { clean: true });
  await evil.subscribeAsync(`devices/${MARKUP}/command`, { qos: 1 });
  await evil.publishAsync(`devices/${MARKUP}/state`, MARKUP, { qos: 1 });
  await evil.publishAsync(`marked/${MARKUP}`, MARKUP, { qos: 1, retain: true, properties: { userProperties: { [MARKUP]: MARKUP } } });
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: "message_state", messages: [{ key: MARKUP, value: MARKUP, headers: { [MARKUP]: MARKUP } }] });
  await producer.disconnect();
  for (let number = 0; number < 12; number += 1) {
    const id = String(BigInt(LOCK) + BigInt(number + 1));
    const lock = await client(node, id, { username: number % 3 ? undefined : "lock", properties: { sessionExpiryInterval: 3600 } });
    await lock.subscribeAsync(`devices/${id}/command`, { qos: 1 });
    for (let report = 0; report < 4; report += 1) {
      const payload = { process_id: "7802441525528958", action: "unlock", battery: 83.4 - number, lock_state: report % 2, version: 1.1, client_id: id };
      await lock.publishAsync(`devices/${id}/state`, JSON.stringify(payload), { qos: 1 });
    }
    await lock.publishAsync(`devices/${id}/config`, JSON.stringify({ volume: number, night: true }), { qos: 1, retain: true });
    if (number === 11) await lock.endAsync();
  }
  const admin = kafka.admin();
  await admin.connect();
  await admin.setOffsets({ groupId: MARKUP, topic: "message_state", partitions: [{ partition: 0, offset: "0" }] });
  await admin.setOffsets({ groupId: "statistics", topic: "message_state", partitions: [0, 1, 2, 3].map((partition) => ({ partition, offset: "0" })) });
  await admin.disconnect();
}

test("the article's mock test, in the WebSocket tool and the Streams page", async () => {
  const page = await look(browser, node, "/websocket");
  await page.getByRole("button", { name: "Fill in the door lock" }).click();
  assert.equal(await page.locator("#connect [name=clientId]").inputValue(), LOCK);
  await page.waitForFunction(() => document.querySelector("#connect [name=url]").value !== "");
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await says(page, "#state", `connected as ${LOCK}`);
  await page.getByRole("button", { name: "Subscribe", exact: true }).click();
  await says(page, "#subscriptions", `devices/${LOCK}/command`);
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await says(page, ".message.out", "PUBACK");
  await says(page, ".message.in", `devices/${LOCK}/command`);
  await says(page, ".message.in", "e9f5af7deaa28563");
  await page.getByRole("button", { name: "Status" }).click();
  assert.equal(await page.locator("#publish [name=topic]").inputValue(), `devices/${LOCK}/state`);
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await page.waitForFunction(() => document.querySelectorAll(".message.out .pill.good").length === 2);
  await page.setViewportSize({ width: 390, height: 844 });
  await page.getByRole("button", { name: "Disconnect" }).click();
  await says(page, "#state", "disconnected");
  await page.done();

  for (const [stream, fields] of [["message_command", ["client_id", "from", "nonce_str"]], ["message_state", ["client_id", "battery", "lock_state"]]]) {
    const records = await look(browser, node, `/streams?name=${stream}&key=${LOCK}`);
    await says(records, ".record", "7802441525528958");
    await records.locator(".record summary").first().click();
    const decoded = records.locator(".decoded").first();
    await decoded.waitFor();
    const text = await decoded.textContent();
    for (const field of [...fields, `devices/${LOCK}/`, '"process_id": "7802441525528958"']) assert.ok(text.includes(field), `${stream}: ${field} in ${text}`);
    await records.getByRole("tab", { name: "Hex" }).first().click();
    await says(records, "pre.hex", "000000");
    await records.done();
  }
});

test("every page with data, wide and narrow, light and dark: no error, no foreign request", async () => {
  const shown = {
    "/clients": `${BigInt(LOCK) + 3n}`, "/subscriptions": `devices/${BigInt(LOCK) + 2n}/command`, "/retained": `devices/${BigInt(LOCK) + 1n}/config`,
    "/streams": "message_state", "/streams?name=message_state": "unlock", "/hooks": "devices/+/state", "/settings": "packet_size_max", "/": "Devices",
  };
  for (const path of PAGES) {
    for (const [width, height, colorScheme] of [[1440, 900, "light"], [390, 844, "light"], [1440, 900, "dark"]]) {
      const page = await look(browser, node, path, { width, height, colorScheme });
      await says(page, "main", shown[path] ?? "");
      await says(page, "#health", "serving");
      if (path.includes("name=")) await page.locator(".record summary").first().click();
      await settled(page, path);
      await page.done();
    }
  }
});

/** What comes with the first live event is there. */
async function settled(page, path) {
  if (path !== "/") return;
  await page.waitForFunction(() => document.getElementById("r-in").textContent !== "-", undefined, { timeout: 15000 });
  await page.waitForFunction(() => !document.getElementById("verdict-title").textContent.startsWith("Asking"), undefined, { timeout: 15000 });
}

test("the overview says in words what is wrong", async () => {
  const page = await look(browser, node, "/");
  await says(page, "#problems", "Nobody reads for group statistics");
  await page.done();
});

test("what devices send never becomes markup", async () => {
  const clients = await look(browser, node, "/clients?filter=onerror");
  await clients.getByRole("button", { name: MARKUP }).click();
  await says(clients, "#drawer-title", MARKUP);
  await says(clients, "#drawer", `devices/${MARKUP}/command`);
  await clients.done();

  const retained = await look(browser, node, "/retained?filter=marked/%23");
  await retained.getByRole("button", { name: `marked/${MARKUP}` }).click();
  await says(retained, "#drawer pre", MARKUP);
  await retained.done();

  const subscriptions = await look(browser, node, "/subscriptions?filter=onerror");
  await says(subscriptions, "td", `devices/${MARKUP}/command`);
  await subscriptions.done();

  const records = await look(browser, node, "/streams?name=message_state&text=onerror");
  await records.waitForFunction(() => document.querySelectorAll(".record").length >= 1);
  for (const summary of await records.locator(".record summary").all()) await summary.click();
  await says(records, ".record pre", MARKUP);
  for (const name of ["JSON", "Raw", "Hex"]) {
    for (const tab of await records.getByRole("tab", { name }).all()) await tab.click();
  }
  await says(records, ".record .key", MARKUP.slice(0, 20));
  await records.done();

  const groups = await look(browser, node, "/streams?name=message_state");
  await says(groups, "main", MARKUP);
  await groups.done();

  const live = await look(browser, node, "/live?tab=trace&topic=traced/%23");
  const named = await client(node, `${MARKUP}2`, { username: MARKUP, will: { topic: `gone/${MARKUP}`, payload: MARKUP, qos: 0, retain: false } });
  const seen = says(live, "#lines", `traced/${MARKUP}`);
  const again = setInterval(() => named.publish(`traced/${MARKUP}`, MARKUP, { qos: 1, properties: { userProperties: { [MARKUP]: MARKUP }, contentType: MARKUP } }), 200);
  await seen.finally(() => clearInterval(again));
  await live.done();
  const users = await look(browser, node, `/clients?filter=${encodeURIComponent(`${MARKUP}2`)}`);
  await says(users, "td", MARKUP);
  await users.getByRole("button", { name: `${MARKUP}2` }).click();
  await says(users, "#drawer dd", `gone/${MARKUP}`);
  await users.done();

  const headers = { "content-type": "application/json" };
  const ban = { kind: "user", value: `${MARKUP}3`, reason: MARKUP };
  assert.equal((await fetch(`${node.base}/api/v1/bans`, { method: "POST", headers, body: JSON.stringify(ban) })).status, 201);
  const access = await look(browser, node, "/access");
  await says(access, "td", `${MARKUP}3`);
  await access.done();
  assert.equal((await fetch(`${node.base}/api/v1/bans/${encodeURIComponent(`user:${MARKUP}3`)}`, { method: "DELETE" })).status, 204);

  const tool = await look(browser, node, "/websocket");
  await tool.waitForFunction(() => document.querySelector("#connect [name=url]").value !== "");
  await tool.getByRole("button", { name: "Connect", exact: true }).click();
  await says(tool, "#state", "connected as console-");
  await tool.locator("#subscribe [name=filter]").fill("marked/#");
  await tool.getByRole("button", { name: "Subscribe", exact: true }).click();
  await says(tool, ".message.in pre", MARKUP);
  await says(tool, ".message.in .props", MARKUP);
  await tool.done();
});

test("a big number in JSON stays the number that was sent", async () => {
  const sender = await client(node, "numbers");
  await sender.publishAsync("devices/numbers/state", '{"id":10083618796833171999,"exact":0.10}', { qos: 1 });
  const page = await look(browser, node, "/streams?name=message_state&key=numbers");
  await page.locator(".record summary").first().click();
  await says(page, ".decoded pre", '"id": 10083618796833171999');
  await says(page, ".decoded pre", '"exact": 0.10');
  await page.done();
});

test("the tool publishes with QoS 2, retain and MQTT 5 properties, and leaves a will", async () => {
  const reader = await client(node, "reader");
  const got = new Promise((done) => {
    const found = [];
    reader.on("message", (topic, payload, packet) => found.push({ topic, text: payload.toString(), packet }) === 2 && done(found));
  });
  await reader.subscribeAsync("tool/#", { qos: 2, rap: true });
  const page = await look(browser, node, "/websocket");
  await page.waitForFunction(() => document.querySelector("#connect [name=url]").value !== "");
  await page.getByText("Will", { exact: true }).click();
  await page.locator("[name=willTopic]").fill("tool/will");
  await page.locator("[name=willPayload]").fill("gone");
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await says(page, "#state", "connected as console-");
  await page.locator("#publish [name=topic]").fill("tool/full");
  await page.locator("#publish [name=payload]").fill("hello");
  await page.locator("#publish [name=qos]").selectOption("2");
  await page.locator("#publish [name=retain]").check();
  await page.getByText("MQTT 5 properties").click();
  await page.locator("[name=contentType]").fill("text/plain");
  await page.locator("[name=responseTopic]").fill("tool/answer");
  await page.locator("[name=correlation]").fill("c-1");
  await page.locator("[name=userProperties]").fill("site=north\nsite=south");
  await page.getByRole("button", { name: "Publish", exact: true }).click();
  await says(page, ".message.out", "PUBCOMP");
  await page.goto("about:blank");
  const [full, will] = await got;
  assert.equal(full.text, "hello");
  assert.equal(full.packet.qos, 2);
  assert.equal(full.packet.retain, true);
  assert.equal(full.packet.properties.contentType, "text/plain");
  assert.equal(full.packet.properties.responseTopic, "tool/answer");
  assert.equal(full.packet.properties.correlationData.toString(), "c-1");
  assert.deepEqual(full.packet.properties.userProperties.site, ["north", "south"]);
  assert.deepEqual([will.topic, will.text], ["tool/will", "gone"]);
  await page.context().close();
});

test("a client's details: where it came in, what goes each way, its will, its subscriptions", async () => {
  const own = await startNode('\n[[listener]]\nkind = "mqtt"\nname = "crew"\nbind = "127.0.0.1:0"\nmessages_in_per_s = 20\n');
  try {
    const will = { topic: "doors/lock-7/gone", payload: "gone", qos: 1, retain: true, properties: { willDelayInterval: 30 } };
    const lock = await client(own, "lock-7", { username: "joe", clean: false, keepalive: 90, will, properties: { sessionExpiryInterval: 7200 } });
    await lock.subscribeAsync("devices/lock-7/command", { qos: 1 });
    await lock.subscribeAsync("$share/night/alarm/#", { qos: 2 });
    await lock.publishAsync("devices/lock-7/command", "open", { qos: 1 });
    const page = await look(browser, own, "/clients", { width: 390, height: 844 });
    const fact = (name) => page.locator("#drawer dt", { hasText: new RegExp(`^${name}$`) }).locator("xpath=following-sibling::dd[1]").textContent();
    const open = async () => {
      await page.getByRole("button", { name: "lock-7" }).click();
      await says(page, "#drawer-title", "lock-7");
    };
    await open();
    for (const [name, told] of [["State", /^connected$/], ["User name", /^joe$/], ["Address", /^127\.0\.0\.1:\d+$/], ["Listener", /^crew$/],
      ["From it", /messages\/s, .*\/s of 20 messages\/s; 1 messages, \d+ B in all$/], ["To it", /; 1 messages, \d+ B in all$/],
      ["Protocol", /^MQTT 5/], ["Keep alive", /^1 min 30 s$/], ["Session expiry", /^2 h$/],
      ["Will", /^doors\/lock-7\/gone QoS 1, retained, after 30 s$/], ["Subscriptions", /^2 of /], ["Owed", /^0 of 1,000$/]]) {
      assert.match(await fact(name), told, name);
    }
    const rows = await page.locator("#drawer tbody tr").allTextContents();
    assert.deepEqual(rows.map((row) => row.replace(/\s+/g, "")).sort(), ["alarm/#2night", "devices/lock-7/command1"]);
    const drawer = await page.locator("#drawer").boundingBox();
    assert.ok(drawer.x >= 0 && drawer.x + drawer.width <= 390, `it fits a phone: ${JSON.stringify(drawer)}`);
    // Who says more than its listener lets through.
    for (let number = 0; number < 120; number += 1) lock.publish("devices/lock-7/state", "x", { qos: 0 });
    await page.waitForFunction(async () => (await (await fetch("/api/v1/clients/lock-7")).json()).slowed);
    await page.keyboard.press("Escape");
    await open();
    assert.match(await fact("From it"), /slowed down/);
    // Who is away, and is owed something.
    await lock.endAsync();
    await page.waitForFunction(async () => !(await (await fetch("/api/v1/clients/lock-7")).json()).connected);
    const writer = await client(own, "writer");
    await writer.publishAsync("devices/lock-7/command", "open", { qos: 1 });
    await page.keyboard.press("Escape");
    await page.waitForFunction(async () => (await (await fetch("/api/v1/clients/lock-7")).json()).owed === 1);
    await open();
    assert.equal(await fact("State"), "away");
    assert.match(await fact("Owed"), /^1 of 1,000$/);
    assert.equal(await page.locator("#drawer").getByRole("button", { name: "Disconnect" }).count(), 0, "there is nothing to end");
    await page.getByRole("link", { name: "Trace it" }).click();
    await page.waitForURL(/\/live\?tab=trace&client=lock-7/);
    await page.done();
  } finally {
    await stopNode(own);
  }
});

test("a client is disconnected from its details, by keyboard", async () => {
  const victim = await client(node, "victim");
  const closed = new Promise((done) => victim.once("close", done));
  const page = await look(browser, node, "/clients?filter=victim");
  const name = page.getByRole("button", { name: "victim" });
  await name.focus();
  await page.keyboard.press("Enter");
  await says(page, "#drawer", "Keep alive");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.getElementById("drawer").open);
  await name.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Disconnect" }).focus();
  await page.keyboard.press("Enter");
  await says(page, "#ask-title", "Disconnect this client?");
  await page.locator("#ask-yes").focus();
  await page.keyboard.press("Enter");
  await closed;
  await page.done();
});

test("the first key leads past the menu, and arrows move between views", async () => {
  const page = await look(browser, node, "/streams?name=message_state");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const summary = page.locator(".record summary").first();
  await summary.focus();
  await page.keyboard.press("Enter");
  const chosen = page.locator(".record [role=tab][aria-selected=true]").first();
  await chosen.focus();
  const before = await chosen.textContent();
  await page.keyboard.press("ArrowRight");
  const now = await page.evaluate(() => document.activeElement.textContent);
  assert.notEqual(now, before);
  await page.done();
});

test("the live tail shows what comes, and says what it skipped", async () => {
  const page = await look(browser, node, "/streams?name=message_state");
  await page.locator(".record").first().waitFor();
  await page.getByRole("button", { name: "Follow live" }).click();
  await says(page, "#shown", "following live");
  const writer = await client(node, "flood");
  await writer.publishAsync("devices/flood/state", '{"first": true}', { qos: 1 });
  await says(page, ".record .glimpse", "first");
  const all = [];
  for (let number = 0; number < 20000; number += 1) all.push(writer.publishAsync("devices/flood/state", `{"n": ${number}}`, { qos: 0 }));
  await Promise.all(all);
  await writer.publishAsync("devices/flood/state", '{"last": true}', { qos: 1 });
  await says(page, ".record .glimpse", "last", 30000);
  assert.ok((await page.locator(".record").count()) <= 200);
  await says(page, "#skipped", "skipped");
  await page.getByRole("button", { name: "Stop following" }).click();
  await page.done();
});

test("a hook is switched off and on, and counts what it wrote", async () => {
  const page = await look(browser, node, "/hooks");
  const row = page.locator("tr", { hasText: "message_command" });
  await row.getByRole("button", { name: /Disable/ }).click();
  await says(page, "#ask-title", "Disable this hook?");
  await page.locator("#ask-yes").click();
  await row.getByText("off", { exact: true }).waitFor();
  await row.getByRole("button", { name: /Enable/ }).click();
  await row.getByText("on", { exact: true }).waitFor();

  const of = async () => {
    const hooks = (await (await fetch(`${node.base}/api/v1/hooks`)).json()).items;
    return hooks.find((hook) => hook.name === "message.publish:message_state").matched;
  };
  const before = await of();
  const sender = await client(node, "counted");
  for (let number = 0; number < 7; number += 1) await sender.publishAsync("devices/counted/state", "{}", { qos: 1 });
  await sender.publishAsync("elsewhere", "{}", { qos: 1 });
  assert.equal(await of(), before + 7);
  await page.locator("tr", { hasText: "message_state" }).getByText((before + 7).toLocaleString("en"), { exact: true }).waitFor();
  await page.done();
});

test("the mirror is switched off and on, by keyboard", async () => {
  const behind = await startNode();
  const mirrored = await startNode(`
[mirror]
brokers = "127.0.0.1:${behind.ports.kafka}"
`);
  try {
    const page = await look(browser, mirrored, "/mirror");
    await says(page, "#facts", "connected", 60000);
    const press = async (name) => {
      await page.getByRole("button", { name }).focus();
      await page.keyboard.press("Enter");
    };
    await press("Disable the mirror");
    await says(page, "#ask-title", "Disable the mirror?");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => !document.getElementById("ask").open);
    await says(page, "#facts", "connected");
    await press("Disable the mirror");
    await page.locator("#ask-yes").focus();
    await page.keyboard.press("Enter");
    await says(page, "#facts", "paused");

    const sender = await client(mirrored, "lock");
    for (let number = 0; number < 5; number += 1) await sender.publishAsync("devices/lock/state", "{}", { qos: 1 });
    const of = (title) => page.locator("tr", { hasText: "message_state" }).locator(`td[data-title="${title}"]`);
    await of("Behind").getByText("5", { exact: true }).waitFor();
    const overview = await look(browser, mirrored, "/");
    await says(overview, "#problems", "The mirror is paused");
    await overview.done();

    await press("Enable the mirror");
    await says(page, "#facts", "connected");
    await of("Behind").getByText("0", { exact: true }).waitFor();
    await of("Records").getByText("5", { exact: true }).waitFor();
    await page.done();
  } finally {
    await stopNode(mirrored);
    await stopNode(behind);
  }
});

test("times are the browser's, with UTC on hover", async () => {
  const came = (await (await fetch(`${node.base}/api/v1/clients/${encodeURIComponent(MARKUP)}`)).json()).connected_ms;
  const page = await look(browser, node, "/clients?filter=onerror", { timezoneId: "Asia/Kathmandu" });
  const time = page.locator("td time").first();
  await time.waitFor();
  assert.equal(await time.getAttribute("title"), `${new Date(came).toISOString().replace("T", " ").replace("Z", "")} UTC`);
  // 5 h 45 min before UTC; the day stands there where it is not today's.
  const there = new Date(came + 345 * 60000).toISOString();
  assert.ok((await time.textContent()).endsWith(there.slice(11, 19)), await time.textContent());
  await page.done();
});

test("the colours are chosen and kept; on a phone the menu opens and closes", async () => {
  const page = await look(browser, node, "/settings", { width: 390, height: 844 });
  const menu = page.getByRole("button", { name: "Menu" });
  const clients = page.getByRole("link", { name: "Clients" });
  assert.equal(await clients.isVisible(), false);
  await menu.click();
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: /^Colours/ }).click();
  await page.getByRole("button", { name: /^Colours/ }).click();
  assert.notEqual(await ground(), light, "dark");
  await page.keyboard.press("Escape");
  await clients.waitFor({ state: "hidden" });
  await page.reload();
  assert.notEqual(await ground(), light, "still dark");
  await menu.click();
  await clients.click();
  await says(page, "h1", "Clients");
  assert.notEqual(await ground(), light, "on every page");
  await page.done();
});

test("a retained message is looked at and deleted", async () => {
  const sender = await client(node, "keeper");
  await sender.publishAsync("kept/once", '{"volume": 11}', { qos: 1, retain: true });
  const page = await look(browser, node, "/retained?filter=kept/%23");
  await page.getByRole("button", { name: "kept/once" }).click();
  await says(page, "#drawer pre", '"volume": 11');
  await says(page, "#drawer", "keeper");
  await page.locator("#drawer").getByRole("button", { name: "Delete" }).click();
  await page.locator("#ask-yes").click();
  await says(page, "#table .empty", "No retained message matches.");
  const answer = await fetch(`${node.base}/api/v1/retained/kept%2Fonce`);
  assert.equal(answer.status, 404);
  await page.done();
});

test("what a device sends cannot stop the page", async () => {
  const sender = await client(node, "heavy");
  const deep = "[".repeat(20000) + "]".repeat(20000);
  const wide = `[${"0,".repeat(100000)}0]`;
  await sender.publishAsync("devices/heavy/state", deep, { qos: 1 });
  await sender.publishAsync("devices/heavy/state", wide, { qos: 1 });
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: "message_state", messages: [{ key: "heavy", value: '{"client_id":"x","topic":"a","payload":"","ts":1e300}' }] });
  await producer.disconnect();
  const page = await look(browser, node, "/streams?name=message_state&key=heavy");
  await page.waitForFunction(() => document.querySelectorAll(".record").length >= 3);
  const start = Date.now();
  for (const summary of await page.locator(".record summary").all()) await summary.click();
  await page.waitForFunction(() => document.querySelectorAll(".record[open] .view").length >= 3);
  assert.ok(Date.now() - start < 10000, `${Date.now() - start} ms`);
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  assert.ok(nodes < 60000, `${nodes} elements`);
  await page.done();
});

test("tokens, users and bans are added and taken back; a wrong token is refused", async () => {
  const page = await look(browser, node, "/access", { expected: ["401", "403", "409"] });
  await page.locator("#token-form [name=name]").fill("console");
  await page.locator("#token-form [name=role]").selectOption("admin");
  await page.locator("#token-form [name=for]").selectOption("30");
  await page.getByRole("button", { name: "Create" }).click();
  await says(page, "#token", "sluice_");
  const token = await page.locator("#token code").textContent();
  await says(page, "#tokens td", "console");
  assert.ok(!(await page.locator("#tokens").textContent()).includes("never"), "it expires");

  await page.locator("#user-form [name=name]").fill("billing");
  await page.locator("#user-form [name=password]").fill("a long password");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await says(page, "#users td", "billing");
  await page.locator("#user-form [name=name]").fill("billing");
  await page.locator("#user-form [name=password]").fill("another password");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await says(page, "#ask-title", "Change the password of billing?");
  await page.locator("#ask-yes").click();
  await says(page, "#notices", "Changed.");

  const banned = await client(node, "bad-lock", { username: "billing", password: "another password" });
  const cut = new Promise((done) => banned.once("close", done));
  await page.locator("#ban-form [name=value]").fill("bad-lock");
  await page.locator("#ban-form [name=reason]").fill("noise");
  await page.getByRole("button", { name: "Ban", exact: true }).click();
  await says(page, "#bans td", "bad-lock");
  await cut;
  await assert.rejects(client(node, "bad-lock"));
  await page.getByRole("button", { name: "Lift bad-lock" }).click();
  await page.locator("#ask-yes").click();
  await says(page, "#bans .empty", "Nobody is banned.");
  await client(node, "bad-lock");
  await page.getByRole("button", { name: "Delete billing" }).click();
  await page.locator("#ask-yes").click();
  await says(page, "#users .empty", "No users");

  await page.evaluate(() => sessionStorage.setItem("sluice.token", "sluice_wrong"));
  await page.reload();
  await says(page, "#login-error", "refused");
  await page.locator("#login-token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await says(page, "#tokens td", "console");
  await says(page, "#audit", "/bans");
  await page.getByRole("button", { name: "Revoke console" }).click();
  await page.locator("#ask-yes").click();
  await says(page, "#tokens", "No tokens").catch(() => says(page, "#login", "Log in"));
  await page.done();
});

test("each role logs in and may do what is its own, by keyboard", async () => {
  const guarded = await startNode();
  try {
    const local = readFileSync(join(guarded.folder, "data/admin.token"), "utf8").trim();
    const tokens = {};
    for (const role of ["viewer", "operator", "admin"]) {
      const made = await fetch(`${guarded.base}/api/v1/tokens`, {
        method: "POST", headers: { Authorization: `Bearer ${local}`, "Content-Type": "application/json" },
        body: JSON.stringify({ name: role, role }),
      });
      tokens[role] = (await made.json()).token;
    }
    for (const [role, kicks, sees] of [["viewer", false, false], ["operator", true, false], ["admin", true, true]]) {
      const victim = await client(guarded, `victim-${role}`);
      const closed = new Promise((done) => victim.once("close", done));
      const page = await look(browser, guarded, `/clients?filter=victim-${role}`, { expected: ["401", "403"] });
      await page.locator("#login-token").waitFor();
      await page.keyboard.type(tokens[role]);
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: `victim-${role}` }).focus();
      await page.keyboard.press("Enter");
      await page.locator("#drawer").getByRole("button", { name: "Disconnect" }).focus();
      await page.keyboard.press("Enter");
      await page.locator("#ask-yes").focus();
      await page.keyboard.press("Enter");
      if (kicks) await closed;
      else await says(page, "#notices", "has the role viewer; this needs operator");
      await page.goto(`${guarded.base}/access`);
      if (sees) await says(page, "#audit", "/tokens");
      else await says(page, "#users", "this needs admin");
      await page.done();
    }
  } finally {
    await stopNode(guarded);
  }
});

test("with 15,000 clients the first page is there at once", { skip: !MANY && "SLUICE_CONSOLE_MANY=0" }, async () => {
  const crowded = await startNode();
  const crowd = spawn(BINARY, ["bench", "idle", "--port", String(crowded.ports.mqtt), "--pid", String(crowded.program.pid), "--connections", String(MANY), "--warmup", "1", "--duration", "120"], { stdio: "ignore" });
  try {
    const connections = async () => (await (await fetch(`${crowded.base}/api/v1/status`)).json()).connections;
    while ((await connections()) < MANY) {
      assert.equal(crowd.exitCode, null, "the crowd has gone");
      await new Promise((done) => setTimeout(done, 250));
    }
    for (const query of ["", "?sort=-connected_ms", "?filter=idle-14", "?sort=username&connected=true"]) {
      const took = [];
      for (let turn = 0; turn < 5; turn += 1) {
        const start = performance.now();
        const answer = await fetch(`${crowded.base}/api/v1/clients${query}`);
        assert.equal((await answer.json()).items.length, 100);
        took.push(performance.now() - start);
      }
      took.sort((a, b) => a - b);
      console.log(`${MANY} clients, first page of ${query || "all"}: ${took.map((ms) => ms.toFixed(1)).join(" ")} ms`);
      assert.ok(took[2] < 100, `${query}: ${took}`);
    }
    const page = await look(browser, crowded, "/clients");
    await says(page, "#count", "the first 100 clients");
    await says(page, "td", "idle-0");
    await page.locator("#filters [name=filter]").fill(`idle-${MANY - 1}`);
    await page.keyboard.press("Enter");
    await says(page, "#count", "1 client");
    await page.done();
  } finally {
    crowd.kill();
    await stopNode(crowded);
  }
});

test("over https the tool speaks wss", async () => {
  const pair = certificate();
  const secure = await startNode(`
[[listener]]
kind = "wss"
bind = "127.0.0.1:0"
certificate = "${pair.certificate}"
key = "${pair.key}"

[[listener]]
kind = "https"
bind = "127.0.0.1:0"
certificate = "${pair.certificate}"
key = "${pair.key}"
`);
  try {
    const page = await look(browser, { base: `https://127.0.0.1:${secure.ports.https}` }, "/websocket");
    await page.getByRole("button", { name: "Fill in the door lock" }).click();
    await page.waitForFunction((port) => document.querySelector("#connect [name=url]").value === `wss://127.0.0.1:${port}/mqtt`, secure.ports.wss);
    await page.getByRole("button", { name: "Connect", exact: true }).click();
    await says(page, "#state", `connected as ${LOCK}`);
    await page.getByRole("button", { name: "Subscribe", exact: true }).click();
    await says(page, "#subscriptions", `devices/${LOCK}/command`);
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    await says(page, ".message.in", "e9f5af7deaa28563");
    await page.done();
  } finally {
    await stopNode(secure);
    rmSync(pair.folder, { recursive: true, force: true });
  }
});

test("pages and files carry the security headers", async () => {
  for (const path of ["/", "/streams", "/assets/js/overview.js", "/assets/console.css"]) {
    const answer = await fetch(node.base + path);
    assert.equal(answer.status, 200, path);
    const policy = answer.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.ok(!policy.includes("unsafe"), policy);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
  }
});
