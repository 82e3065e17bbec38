// The real program on ports and a data folder of its own, and Chromium looking at its console. Every
// page that a test opens is watched: errors, broken policies and requests to other hosts fail it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import mqtt from "mqtt";
import { chromium } from "playwright-core";

/** The program under test. */
export const BINARY = resolve(process.env.SLUICE_BIN ?? "../../target/debug/sluice");
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
/** Where pictures go, when they are wanted: cargo xtask console shots. */
export const SHOTS = process.env.SLUICE_CONSOLE_SHOTS;

const CONFIG = `
[[listener]]
kind = "mqtt"
bind = "127.0.0.1:0"

[[listener]]
kind = "ws"
bind = "127.0.0.1:0"

[[listener]]
kind = "kafka"
bind = "127.0.0.1:0"

[[listener]]
kind = "http"
bind = "127.0.0.1:0"
`;

/** A running node. */
export async function startNode(more = "") {
  const folder = mkdtempSync(join(tmpdir(), "sluice-console-"));
  writeFileSync(join(folder, "sluice.toml"), CONFIG + more);
  const program = spawn(BINARY, ["serve", "--config", "sluice.toml", "--data-dir", "data"], {
    cwd: folder,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const node = { folder, program, ports: {}, clients: [] };
  for await (const line of createInterface({ input: program.stdout })) {
    const found = line.match(/^\s*(\w+)\s+127\.0\.0\.1:(\d+)/);
    if (found) node.ports[found[1].toLowerCase()] = Number(found[2]);
    if (line.startsWith("ready")) break;
  }
  program.stdout.resume();
  assert.ok(node.ports.http, "the node did not start");
  node.base = `http://127.0.0.1:${node.ports.http}`;
  return node;
}

export async function stopNode(node) {
  for (const client of node.clients) client.end(true);
  const ended = new Promise((done) => node.program.once("exit", done));
  node.program.kill("SIGKILL");
  await ended;
  rmSync(node.folder, { recursive: true, force: true });
}

/** An MQTT client over TCP. */
export async function client(node, clientId, options = {}) {
  const made = await mqtt.connectAsync(`mqtt://127.0.0.1:${node.ports.mqtt}`, { clientId, protocolVersion: 5, reconnectPeriod: 0, ...options });
  node.clients.push(made);
  return made;
}

/** A certificate that this machine signs itself, in a folder of its own. */
export function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "sluice-console-"));
  const [key, found] = [join(folder, "key.pem"), join(folder, "certificate.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", found], { stdio: "ignore" });
  return { folder, key, certificate: found };
}

export function launch() {
  assert.ok(CHROMIUM, "Chromium is not installed: apt-get install chromium");
  // Root has no sandbox; the pages are our own.
  return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--ignore-certificate-errors"] });
}

/** A page of the console that is watched; `look.done()` says what was wrong with it. */
export async function look(browser, node, path, { width = 1440, height = 900, colorScheme = "light", timezoneId = undefined, expected = [] } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, timezoneId });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !expected.some((text) => message.text().includes(text))) wrong.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => wrong.push(`script: ${error.stack}`));
  page.on("dialog", (dialog) => (wrong.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.hostname !== "127.0.0.1") wrong.push(`foreign request: ${url}`);
  });
  page.on("websocket", (socket) => {
    if (new URL(socket.url()).hostname !== "127.0.0.1") wrong.push(`foreign socket: ${socket.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  });
  await page.goto(node.base + path);
  page.done = async () => {
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (over > 0) wrong.push(`the page is ${over} pixels wider than its window`);
    const marked = await page.evaluate(() => [window.pwned, document.querySelectorAll("[onerror], [onload], iframe, main script, main img").length]);
    if (marked[0] !== undefined || marked[1] !== 0) wrong.push(`markup of a device is in the page: ${marked}`);
    await context.close();
    assert.deepEqual(wrong, [], path);
  };
  return page;
}

/** A picture for the documents. */
export async function shot(page, name) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Waits until the page says so. */
export async function says(page, selector, text, timeout = 15000) {
  await page.locator(selector, { hasText: text }).first().waitFor({ timeout });
}
