// What every page has: menu, colours, login, notices, the question before a deed, the drawer of
// details, and the health of the node in the corner.

import * as api from "./api.js";
import { $, fill, h, say } from "./dom.js";

const THEMES = ["auto", "light", "dark"];
const leaving = new AbortController();

/** Aborts when the page goes. */
export const gone = leaving.signal;
addEventListener("pagehide", () => leaving.abort());
addEventListener("pageshow", (event) => event.persisted && location.reload());

/** A short notice at the foot; errors stay longer. */
export function notice(text, kind = "good") {
  const note = h("p", { class: `notice ${kind}` }, text);
  $("notices").append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9000 : 4000);
}

/** Runs a deed; what goes wrong becomes a notice. True: it was done. */
export async function attempt(deed, done) {
  try {
    await deed();
    if (done) notice(done);
    return true;
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message, "bad");
    return false;
  }
}

/** Asks whether to do it. */
export function confirmed(title, text, yes) {
  const dialog = $("ask");
  say($("ask-title"), title);
  say($("ask-text"), text);
  say($("ask-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

/** Shows details beside the page; Escape closes them. */
export function drawer(title, ...children) {
  say($("drawer-title"), title);
  fill($("drawer-body"), ...children);
  const dialog = $("drawer");
  if (!dialog.open) dialog.showModal();
  $("drawer-body").scrollTop = 0;
}

export function closeDrawer() {
  $("drawer").close();
}

/** Calls now and every so many milliseconds while the page is looked at. */
export function every(ms, work) {
  let running = false;
  const turn = async () => {
    if (running || document.hidden || gone.aborted) return;
    running = true;
    try {
      await work();
    } finally {
      running = false;
    }
  };
  const timer = setInterval(turn, ms);
  document.addEventListener("visibilitychange", turn, { signal: gone });
  gone.addEventListener("abort", () => clearInterval(timer), { once: true });
  return turn();
}

/** Says in the place of a list why there is none. */
export function why(error) {
  const absent = error.status === 404 || error.status === 405 || error.status === 501;
  return h("p", { class: "empty" }, absent ? "This node does not tell that." : `Not to be had: ${error.message}`);
}

function login() {
  const dialog = $("login");
  let waiting = null;
  $("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("login-token").value.trim();
    if (!given) return;
    api.token.set(given);
    $("login-token").value = "";
    $("logout").hidden = false;
    dialog.close();
    waiting?.done();
    waiting = null;
  });
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  api.onLogin((text, refused) => {
    say($("login-error"), refused ? `That token was refused: ${text}` : "");
    if (!waiting) {
      waiting = {};
      waiting.promise = new Promise((done) => (waiting.done = done));
      dialog.showModal();
    }
    return waiting.promise;
  });
  $("logout").hidden = !api.token.get();
  $("logout").addEventListener("click", () => {
    api.token.set(null);
    location.reload();
  });
}

function theme() {
  const button = $("theme");
  const show = () => {
    const chosen = document.documentElement.dataset.theme ?? "auto";
    say(button, `Colours: ${chosen}`);
    button.setAttribute("aria-label", `Colours: ${chosen}. Change`);
  };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    localStorage.setItem("sluice.theme", next);
    show();
    document.dispatchEvent(new CustomEvent("theme"));
  });
  show();
}

function menu() {
  const button = $("menu");
  const open = (yes) => {
    button.setAttribute("aria-expanded", String(yes));
    document.body.classList.toggle("nav-open", yes);
  };
  button.addEventListener("click", () => open(button.getAttribute("aria-expanded") !== "true"));
  document.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
}

async function health() {
  const place = $("health");
  try {
    const status = await api.get("/status");
    const word = status.health ?? "serving";
    place.className = `health ${word === "serving" ? "good" : "bad"}`;
    say(place, word);
    place.title = status.why ?? "";
    say($("node"), status.node ?? "");
  } catch (error) {
    if (gone.aborted) return;
    place.className = "health bad";
    say(place, error instanceof api.ApiError ? "refused" : "unreachable");
    place.title = error.message;
  }
}

login();
theme();
menu();
$("drawer-close").addEventListener("click", closeDrawer);
$("drawer").addEventListener("click", (event) => event.target === $("drawer") && closeDrawer());
every(5000, health);
