// The charts of the last hour: uPlot with the colours of the page, all with one cursor, fed by the
// node's history and then by live figures, one point for ten seconds.

import uPlot from "../vendor/uplot.js";
import { h, say } from "./dom.js";
import { gone } from "./shell.js";
import { bytes, clock, micros, rate, short } from "./words.js";

const STEP_MS = 10000;
const SPAN_MS = 3600000;
/** A node that has just started shows at least so much time. */
const LEAST_MS = 300000;
const perSecond = (value) => `${rate(value)}/s`;
const bytesPerSecond = (value) => `${bytes(value)}/s`;

/** Steps between the lines of an axis of bytes. */
const BYTES = [0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5, 10, 20, 50, 100, 200, 500].map((step) => step * 1024 ** power));

const CHARTS = [
  { title: "Messages", unit: perSecond, axis: rate, lines: [["in", "messages_in"], ["out", "messages_out"], ["dropped", "dropped", "--bad"]] },
  { title: "Records", unit: perSecond, axis: rate, lines: [["appended", "records_in"], ["read over Kafka", "kafka_records_out"]] },
  { title: "Bytes of MQTT", unit: bytesPerSecond, axis: bytes, lines: [["in", "bytes_in"], ["out", "bytes_out"]] },
  { title: "Connections", unit: short, axis: short, lines: [["MQTT", "connections"], ["Kafka", "kafka_connections"]] },
  { title: "Waiting", unit: short, axis: short, lines: [["lag of groups", "lag"], ["owed", "owed"], ["mirror", "mirror_lag", "--line-3"]] },
  { title: "Flush, 99 of 100 below", unit: micros, axis: micros, lines: [["time", "flush_p99_us"]] },
];

/** Charts in a place: `history(items)` once, `add(second)` for each second. */
export function charts(place) {
  const points = [];
  let open = null;
  const all = CHARTS.map((chart) => one(place, chart));

  function draw() {
    const horizon = Date.now() - SPAN_MS;
    while (points.length && points[0].time_ms < horizon) points.shift();
    for (const chart of all) chart.draw(points);
  }

  document.addEventListener("theme", () => (all.forEach((chart) => chart.make()), draw()), { signal: gone });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (all.forEach((chart) => chart.make()), draw()));
  draw();
  return {
    history(items) {
      const first = points[0]?.time_ms ?? Infinity;
      points.unshift(...items.filter((item) => item.time_ms < first));
      draw();
    },
    add(second) {
      const time = second.time_ms ?? Date.now();
      const slot = Math.floor(time / STEP_MS) * STEP_MS;
      if (!open || open.slot !== slot) {
        open = { slot, seen: 0, point: { time_ms: slot } };
        if (!points.length || points.at(-1).time_ms < slot) points.push(open.point);
        else open.point = points.at(-1);
      }
      open.seen += 1;
      for (const [name, value] of Object.entries(second)) {
        if (name === "time_ms" || typeof value !== "number") continue;
        const before = open.seen === 1 ? value : (open.point[name] ?? value);
        open.point[name] = before + (value - before) / open.seen;
      }
      if (open.seen % 2 === 1) draw();
    },
  };
}

function one(place, { title, unit, axis, lines }) {
  const least = axis === bytes ? 1024 : axis === micros ? 1000 : 4;
  const values = lines.map(([name, , colour], index) => {
    const value = h("b", {}, "-");
    const key = h("span", { class: "key", "data-line": colour ? colour.slice(2) : `line-${index + 1}` }, h("i", { "aria-hidden": "true" }), name, " ", value);
    return { key, value };
  });
  const canvas = h("div", { class: "plot" });
  place.append(h("figure", { class: "chart" }, h("figcaption", {}, h("span", { class: "title" }, title), h("span", { class: "keys" }, ...values.map(({ key }) => key))), canvas));
  let plot = null;
  let kept = [[], ...lines.map(() => [])];

  function tell(index) {
    lines.forEach((line, at) => {
      const column = kept[at + 1];
      const value = column[index ?? column.length - 1];
      say(values[at].value, value === undefined || value === null ? "-" : unit(value));
    });
  }

  function make() {
    plot?.destroy();
    // A canvas knows no variables: an element resolves them.
    const colour = (name) => {
      canvas.style.color = `var(${name})`;
      const found = getComputedStyle(canvas).color;
      canvas.style.color = "";
      return found;
    };
    const font = `11px ${getComputedStyle(canvas).fontFamily}`;
    const faint = { stroke: colour("--faint"), font, grid: { stroke: colour("--hair"), width: 1 }, ticks: { show: false } };
    plot = new uPlot({
      width: Math.max(canvas.clientWidth, 200),
      height: 150,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "hour" }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
      hooks: { setCursor: [(self) => tell(self.cursor.idx)] },
      scales: { y: { range: (self, low, high) => [0, Math.max(high * 1.1, least)] }, x: { time: true, range: (self, first) => [Math.max(Date.now() - SPAN_MS, Math.min((first ?? Infinity) * 1000, Date.now() - LEAST_MS)) / 1000, Date.now() / 1000] } },
      axes: [
        { ...faint, size: 24, gap: 4, values: (self, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, 5)), space: 64 },
        { ...faint, incrs: axis === bytes ? BYTES : undefined, size: 58, gap: 4, values: (self, ticks) => ticks.map((tick) => axis(tick)), space: 32 },
      ],
      series: [{}, ...lines.map(([name, , given], index) => {
        const stroke = colour(given ?? `--line-${index + 1}`);
        return { label: name, stroke, width: 1.5, points: { show: false }, fill: index === 0 ? colour("--line-1-soft") : undefined };
      })],
    }, kept, canvas);
  }

  new ResizeObserver(() => plot && canvas.clientWidth && plot.setSize({ width: canvas.clientWidth, height: 150 })).observe(canvas);
  make();
  return {
    make,
    draw(points) {
      kept = [points.map((point) => point.time_ms / 1000), ...lines.map(([, field]) => points.map((point) => point[field] ?? null))];
      plot.setData(kept);
      if (plot.cursor.idx === null || plot.cursor.idx === undefined || plot.cursor.left < 0) tell();
    },
  };
}
