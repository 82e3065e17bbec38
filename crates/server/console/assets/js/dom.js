// Elements from words. What devices say reaches the page only by textContent and by attributes of a
// fixed set; nothing here turns text into markup.

/** An element by its id. */
export const $ = (id) => document.getElementById(id);

const ATTRIBUTES = new Set([
  "class", "id", "type", "title", "role", "tabindex", "colspan", "scope", "for", "name", "value",
  "datetime", "disabled", "hidden", "open", "rows", "spellcheck", "readonly",
]);

/**
 * h("td", { class: "num" }, "12"): children are nodes or text. `onclick` and its like are listeners;
 * `href` leads within this console only.
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "href") element.setAttribute("href", inside(value));
    else if (ATTRIBUTES.has(name) || name.startsWith("aria-") || name.startsWith("data-"))
      element.setAttribute(name, value === true ? "" : String(value));
    else throw new Error(`attribute ${name} is not one of ours`);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat()) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

function inside(path) {
  if (!/^[/#?](?!\/)/.test(path)) throw new Error("a link leads elsewhere");
  return path;
}

/** Puts these children into an element instead of what was there. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Writes text if it differs, so that nothing flickers and a selection stays. */
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** A path of this console with a query. */
export function link(path, query) {
  const known = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(known).toString();
  return text ? `${path}?${text}` : path;
}

/** Copies text and says so on the button. */
export function copier(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet small" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      say(button, "Copied");
    } catch {
      say(button, "Not allowed");
    }
    setTimeout(() => say(button, label), 1500);
  });
  return button;
}
