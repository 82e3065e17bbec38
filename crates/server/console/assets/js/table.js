// A table of rows, by itself or page by page from a list of the API. Cells are nodes or text; on a
// phone each row becomes a card, its cells named by the columns.

import * as api from "./api.js";
import { fill, h, say } from "./dom.js";
import { gone, why } from "./shell.js";
import { count, several } from "./words.js";

/**
 * columns: [{ title, cell(row), num, mono, grow, sort }]. `sort` is a function of a row to what it is
 * sorted by: the head becomes a button. `order` is the API's word for the same, told to `ordered`.
 */
export function table(place, columns, { empty = "Nothing here.", caption, key, onrow, ordered } = {}) {
  let rows = [];
  let by = null;
  let down = false;
  const body = h("tbody");
  const heads = columns.map((column, index) => {
    const text = column.sort || (column.order && ordered)
      ? h("button", { type: "button", class: "sort", onclick: () => sortBy(index) }, column.title)
      : column.title;
    return h("th", { scope: "col", class: classes(column) }, text);
  });
  const whole = h("div", { class: "scroll" },
    h("table", { class: "rows" }, caption && h("caption", {}, caption), h("thead", {}, h("tr", {}, ...heads)), body));
  const nothing = h("p", { class: "empty" }, empty);
  fill(place, whole, nothing);
  nothing.hidden = true;

  function sortBy(index) {
    down = by === index ? !down : false;
    by = index;
    heads.forEach((head, at) => {
      if (at === index) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    if (columns[index].sort) draw();
    else ordered(`${down ? "-" : ""}${columns[index].order}`);
  }

  function draw() {
    const shown = by === null || !columns[by].sort ? rows : [...rows].sort((a, b) => compare(columns[by].sort(a), columns[by].sort(b)) * (down ? -1 : 1));
    const focused = document.activeElement?.closest?.("tr")?.dataset.key;
    fill(body, ...shown.map(line));
    whole.hidden = rows.length === 0;
    nothing.hidden = rows.length !== 0;
    if (focused !== undefined) {
      const again = [...body.children].find((row) => row.dataset.key === focused);
      again?.querySelector("button, a")?.focus({ preventScroll: true });
    }
  }

  function line(row) {
    const cells = columns.map((column) =>
      h("td", { class: classes(column), "data-title": column.title }, ...[column.cell(row) ?? ""].flat()));
    alone(cells);
    const element = h("tr", { "data-key": key ? key(row) : undefined, class: onrow ? "opens" : undefined }, ...cells);
    if (onrow) {
      element.addEventListener("click", (event) => {
        if (!event.target.closest("button, a, input") && !getSelection().toString()) onrow(row);
      });
    }
    return element;
  }

  return {
    show(found) {
      rows = found;
      // Who selects text is not disturbed.
      const chosen = getSelection();
      if (chosen.isCollapsed || !body.contains(chosen.anchorNode)) draw();
    },
    rows: () => rows,
  };
}

/** On a phone two cells share a line: marks those that have one for themselves. */
function alone(cells) {
  let open = null;
  const mark = () => open?.classList.add("alone");
  for (const cell of cells) {
    if (cell.matches(".grow, .clip") || (!cell.firstElementChild && cell.textContent === "")) continue;
    if (cell.matches(".whole, .end")) {
      mark();
      open = null;
    } else open = open ? null : cell;
  }
  mark();
}

function classes(column) {
  return [column.num && "num", column.mono && "mono", column.grow && "grow", column.class].filter(Boolean).join(" ") || undefined;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""));
}

/** Most rows of one page of the API. */
const PAGE_MAX = 1000;

/**
 * A list of the API with a "more" button. `query()` gives what the filters say. `count` is an element
 * that says how many rows are shown.
 */
export function paged(place, path, columns, { query = () => ({}), limit = 100, count: counter, one = "row", ...options }) {
  const box = h("div");
  const more = h("button", { type: "button", class: "more", hidden: true }, "More");
  const trouble = h("div", { role: "alert" });
  fill(place, box, more, trouble);
  let sort;
  const shown = table(box, columns, { ...options, ordered: (by) => ((sort = by), load(null)) });
  let next = null;
  let turn = 0;

  async function load(cursor, much = limit) {
    turn += 1;
    const mine = turn;
    try {
      let page = await api.get(path, { ...query(), sort, limit: much, cursor }, { signal: gone });
      // A page may be a part of the search without a hit.
      for (let tries = 0; tries < 20 && mine === turn && page?.next && !api.rows(page).length; tries += 1) {
        page = await api.get(path, { ...query(), sort, limit: much, cursor: page.next }, { signal: gone });
      }
      if (mine !== turn) return;
      fill(trouble);
      const found = api.rows(page);
      next = page?.next ?? null;
      shown.show(cursor ? [...shown.rows(), ...found] : found);
      more.hidden = next === null;
      if (counter) say(counter, told(page));
    } catch (error) {
      if (gone.aborted || mine !== turn) return;
      if (!cursor && !shown.rows().length) {
        box.hidden = true;
      }
      fill(trouble, why(error));
      return;
    }
    box.hidden = false;
  }

  function told(page) {
    const rows = shown.rows().length;
    if (typeof page?.total === "number") return `${count(rows)} of ${several(page.total, one)}`;
    return next === null ? several(rows, one) : `the first ${several(rows, one)}`;
  }

  more.addEventListener("click", () => load(next));
  return {
    load: () => load(null),
    // As many as are shown, anew; more than a page can hold stay as they are.
    again: () => (shown.rows().length > PAGE_MAX ? undefined : load(null, Math.max(limit, shown.rows().length))),
  };
}

/** The query of a form of filters, kept in the address so that it can be passed on. */
export function filters(form, changed) {
  const given = new URLSearchParams(location.search);
  for (const field of form.elements) {
    if (field.name && given.has(field.name)) field.value = given.get(field.name);
  }
  const apply = () => {
    const address = new URL(location);
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.value) address.searchParams.set(field.name, field.value);
      else address.searchParams.delete(field.name);
    }
    history.replaceState(null, "", address);
    changed();
  };
  form.addEventListener("submit", (event) => (event.preventDefault(), apply()));
  form.addEventListener("change", (event) => event.target.matches("select") && apply());
  form.addEventListener("search", apply);
  return () => Object.fromEntries([...form.elements].filter((field) => field.name && field.value).map((field) => [field.name, field.value]));
}

/** Names and values as a list of definitions. */
export function facts(pairs) {
  const list = h("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === undefined) continue;
    list.append(h("dt", {}, name), h("dd", {}, value));
  }
  return list;
}

/** A figure with its name. */
export function card(name, value, note) {
  return h("div", { class: "card" }, h("p", { class: "name" }, name), h("p", { class: "value" }, value), note && h("p", { class: "faint" }, note));
}

/** A word with a colour: good, warn, bad, or none. */
export function pill(text, kind = "") {
  return h("span", { class: `pill ${kind}` }, text);
}
