// MQTT.js, MQTT 3.1.1 and 5, against the real program.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import mqtt from "mqtt";

const binary = resolve(process.env.SLUICE_BIN ?? "../../target/debug/sluice");
const folder = mkdtempSync(join(tmpdir(), "sluice-mqttjs-"));
let program;
let port;

before(async () => {
  const any = "127.0.0.1:0";
  program = spawn(binary, ["serve", "--data-dir", join(folder, "data"), "--mqtt", any, "--ws", any, "--kafka", any, "--http", any], {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: program.stdout })) {
    const found = line.match(/^\s*MQTT\s+127\.0\.0\.1:(\d+)/);
    if (found) port = Number(found[1]);
    if (line.startsWith("ready")) break;
  }
  program.stdout.resume();
});

after(() => {
  program.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const open = (clientId, protocolVersion, options = {}) =>
  mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { clientId, protocolVersion, ...options });

const received = (client, count) =>
  new Promise((resolve) => {
    const messages = [];
    client.on("message", (topic, payload, packet) => {
      messages.push({ topic, payload: payload.toString(), packet });
      if (messages.length === count) resolve(messages);
    });
  });

for (const version of [4, 5]) {
  for (const qos of [0, 1, 2]) {
    test(`order at QoS ${qos}, protocol ${version}`, async () => {
      const reader = await open(`r-${version}-${qos}`, version);
      const writer = await open(`w-${version}-${qos}`, version);
      const topic = `js/${version}/${qos}`;
      await reader.subscribeAsync(topic, { qos });
      const all = received(reader, 200);
      for (let number = 0; number < 200; number++) writer.publish(topic, String(number), { qos });
      const got = (await all).map((message) => Number(message.payload));
      assert.deepEqual(got, [...Array(200).keys()]);
      await reader.endAsync();
      await writer.endAsync();
    });
  }

  test(`a resumed session gets what it is owed, protocol ${version}`, async () => {
    const properties = version === 5 ? { sessionExpiryInterval: 600 } : undefined;
    const options = { clean: false, properties };
    const first = await open(`dur-${version}`, version, options);
    await first.subscribeAsync(`owed/${version}`, { qos: 1 });
    await first.endAsync();
    const writer = await open(`dw-${version}`, version);
    for (let number = 0; number < 50; number++) {
      await writer.publishAsync(`owed/${version}`, String(number), { qos: 1 });
    }
    const again = mqtt.connect(`mqtt://127.0.0.1:${port}`, { clientId: `dur-${version}`, protocolVersion: version, ...options });
    const got = (await received(again, 50)).map((message) => Number(message.payload));
    assert.deepEqual(got, [...Array(50).keys()]);
    await again.endAsync();
    await writer.endAsync();
  });

  test(`retained, protocol ${version}`, async () => {
    const writer = await open(`retw-${version}`, version);
    await writer.publishAsync(`ret/${version}`, "kept", { qos: 1, retain: true });
    const reader = await open(`retr-${version}`, version);
    const one = received(reader, 1);
    await reader.subscribeAsync("ret/+", { qos: 1 });
    assert.equal((await one)[0].packet.retain, true);
    await reader.endAsync();
    await writer.endAsync();
  });
}

test("topic aliases and user properties, protocol 5", async () => {
  const reader = await open("alias-r", 5);
  const writer = await open("alias-w", 5, { autoAssignTopicAlias: true });
  await reader.subscribeAsync("alias/#", { qos: 1 });
  const all = received(reader, 10);
  for (let number = 0; number < 10; number++) {
    const properties = { userProperties: { number: String(number) } };
    await writer.publishAsync("alias/topic", String(number), { qos: 1, properties });
  }
  for (const [number, message] of (await all).entries()) {
    assert.equal(message.topic, "alias/topic");
    assert.equal(message.packet.properties.userProperties.number, String(number));
  }
  await reader.endAsync();
  await writer.endAsync();
});
