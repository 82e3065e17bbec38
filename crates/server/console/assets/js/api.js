// The HTTP API of the node: JSON answers, problem documents, pages, and streams of events over fetch
// (EventSource cannot send a token). It knows nothing of any page.

const KEY = "sluice.token";
let askForToken = null;

/** What the node answered when it did not do what was asked. */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Who asks the operator for a token: a function that resolves once there is one. */
export function onLogin(ask) {
  askForToken = ask;
}

function headers(more) {
  const given = token.get();
  return { ...more, ...(given ? { Authorization: `Bearer ${given}` } : {}) };
}

/** Asks; a refusal for want of a token asks the operator and tries again. */
async function ask(method, path, { body, signal, accept = "application/json" } = {}) {
  for (;;) {
    const response = await fetch(`/api/v1${path}`, {
      method,
      signal,
      headers: headers({ Accept: accept, ...(body === undefined ? {} : { "Content-Type": "application/json" }) }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const error = await problem(response);
    if (response.status === 401 && askForToken) {
      await askForToken(error.message, token.get() !== null);
      continue;
    }
    throw error;
  }
}

async function problem(response) {
  let detail = `${response.status} ${response.statusText}`;
  try {
    const document = await response.json();
    detail = document.detail ?? document.title ?? detail;
  } catch {
    // Not a problem document: the status says it all.
  }
  return new ApiError(response.status, detail);
}

async function answer(response) {
  if (response.status === 204) return null;
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const get = async (path, query, options) => answer(await ask("GET", withQuery(path, query), options));
export const post = async (path, body = {}) => answer(await ask("POST", path, { body }));
export const put = async (path, body = {}) => answer(await ask("PUT", path, { body }));
export const remove = async (path) => answer(await ask("DELETE", path));

/** A segment of a path. */
export const part = (text) => encodeURIComponent(text);

function withQuery(path, query) {
  const known = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.length ? `${path}?${new URLSearchParams(known)}` : path;
}

let description = null;

/** Whether this node's API has that route, by its own description: `has("post", "/hooks/reload")`. */
export async function has(method, path) {
  description ??= get("/openapi.json");
  const paths = (await description)?.paths ?? {};
  return method in (paths[`/api/v1${path}`] ?? {});
}

/** The rows of a list answer. */
export function rows(page) {
  if (Array.isArray(page)) return page;
  if (page && Array.isArray(page.items)) return page.items;
  return [];
}

/**
 * Follows a stream of server-sent events until the signal aborts: `on(event, data)` for each. It
 * comes back after a break, ever more slowly; `broken(text or null)` hears of breaks and their ends.
 */
export async function follow(path, query, { on, broken = () => {}, signal }) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const response = await ask("GET", withQuery(path, query), { signal, accept: "text/event-stream" });
      broken(null);
      wait = 500;
      await events(response.body, on);
      broken("the node ended the stream");
    } catch (error) {
      if (signal.aborted) return;
      broken(error.message);
      if (error instanceof ApiError && error.status < 500) return;
    }
    await pause(wait, signal);
    wait = Math.min(wait * 2, 10000);
  }
}

function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

async function events(body, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replace(/\r\n?/g, "\n");
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) event(block, on);
  }
}

function event(block, on) {
  let name = "message";
  const lines = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) lines.push(line.slice(line[5] === " " ? 6 : 5));
  }
  if (!lines.length) return;
  const text = lines.join("\n");
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    told = text;
  }
  on(name, told);
}
