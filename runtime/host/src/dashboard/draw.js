// Pictures: stacked bars, lines and columns in SVG. Every colour is doubled by a pattern, a dash or a word.

const PHASES = ["prepare", "parked", "adapter_read", "adapter_load", "backbone", "module", "handler", "queue", "prefill"];
const PHASE_WORDS = {
  prepare: "prepare", parked: "parked", adapter_read: "read adapter", adapter_load: "load adapter", backbone: "backbone",
  module: "module", handler: "handler", queue: "engine queue", prefill: "prefill",
};
// Nine phases and eight fills: `handler` and `prepare` are both the host's own work and share one.
const PHASE_FILLS = { prepare: 7, parked: 2, adapter_read: 1, adapter_load: 3, backbone: 5, module: 6, handler: 7, queue: 4, prefill: 0 };

const fill = (number) => `url(#fill${number})`;

function swatch(number) {
  return svg("svg", { viewBox: "0 0 16 12", "aria-hidden": "true" }, svg("rect", { width: 16, height: 12, rx: 2, fill: fill(number) }));
}

function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([mark, text]) => el("li", {}, mark, text)));
}

// One bar of parts `[name, value, fill, words]`; what is left of `whole` stays free.
function bar(parts, whole, label) {
  const picture = svg("svg", { class: "bar", role: "img", "aria-label": label }, svg("rect", { class: "free", width: "100%", height: "100%" }));
  let share = 0;
  for (const [name, value, number, said] of parts) {
    if (!value || !whole) continue;
    const wide = Math.min((100 * value) / whole, 100 - share);
    picture.append(svg("rect", { class: "part", x: `${share}%`, width: `${wide}%`, height: "100%", fill: fill(number) }, svg("title", {}, `${name}: ${said}`)));
    share += wide;
  }
  return picture;
}

// A round number at or above a value: 1, 2 or 5 with zeros.
function roundUp(value) {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

function scale(picture, top, left, width, height, word) {
  for (const share of [0, 0.5, 1]) {
    const y = 10 + height * (1 - share);
    picture.append(svg("line", { class: share ? "grid" : "axis", x1: left, x2: left + width, y1: y, y2: y }));
    picture.append(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, word(top * share)));
  }
}

// Lines over time: `series` is `[class, name, values]`, one value for each look.
function lines(series, slots, label) {
  const [left, width, height] = [44, 500, 120];
  const picture = svg("svg", { class: "plot", viewBox: `0 0 ${left + width + 6} ${height + 34}`, role: "img", "aria-label": label });
  const top = Math.max(2, roundUp(Math.max(...series.flatMap(([, , values]) => values), 1)));
  scale(picture, top, left, width, height, (value) => digits(value, 1));
  for (const [kind, name, values] of series) {
    const at = (value, place) => `${(left + (width * (slots - values.length + place)) / (slots - 1)).toFixed(1)} ${(10 + height * (1 - value / top)).toFixed(1)}`;
    const drawn = values.length > 1 ? values : [...values, ...values];
    picture.append(svg("path", { class: `line ${kind}`, d: `M${drawn.map((value, place) => at(value, Math.min(place, values.length - 1))).join("L")}` }, svg("title", {}, name)));
  }
  picture.append(svg("text", { x: left, y: height + 30 }, `${digits((slots * LOOK_MS) / 60000, 0)} min ago`));
  picture.append(svg("text", { x: left + width, y: height + 30, "text-anchor": "end" }, "now"));
  return picture;
}

// A column for each request, stacked by phase: the last ones, oldest first.
function columns(requests, narrow) {
  const [left, height] = [56, 170];
  const slots = narrow ? 24 : 60;
  const shown = requests.slice(-slots);
  const width = narrow ? 320 : 900;
  const step = width / slots;
  const picture = svg("svg", { class: "plot", viewBox: `0 0 ${left + width + 6} ${height + 34}`, role: "img", "aria-label": `Time to first token of the last ${shown.length} requests by phase; the table below has the numbers` });
  const top = roundUp(Math.max(...shown.map((request) => request.ttft_ns), 1e6));
  scale(picture, top, left, width, height, time);
  shown.forEach((request, place) => {
    const x = left + width - (shown.length - place) * step;
    const column = svg("g", {}, svg("title", {}, `${called(request.tenant, request.function)}: ${time(request.ttft_ns)}, ${request.cold === "warm" ? "warm" : `waited for ${request.cold}`}`));
    // Catches the pointer over the whole slot, thin columns included.
    column.append(svg("rect", { x, y: 10, width: step, height, fill: "transparent" }));
    let y = 10 + height;
    for (const phase of PHASES) {
      const tall = (height * (request.phases_ns[phase] ?? 0)) / top;
      if (tall <= 0) continue;
      y -= tall;
      column.append(svg("rect", { class: "part", x: x + step * 0.12, y: y.toFixed(2), width: (step * 0.76).toFixed(2), height: tall.toFixed(2), fill: fill(PHASE_FILLS[phase]) }));
    }
    if (request.cold !== "warm") column.append(svg("text", { x: x + step / 2, y: Math.max(y - 4, 9), "text-anchor": "middle" }, "*"));
    picture.append(column);
  });
  picture.append(svg("text", { x: left, y: height + 30 }, "* cold"));
  picture.append(svg("text", { x: left + width, y: height + 30, "text-anchor": "end" }, "latest"));
  return picture;
}

const STATE_SHAPES = {
  running: "M3 2v12l10-6z", loaded: "M8 2a6 6 0 1 0 .01 0z", loading: "M8 2a6 6 0 1 1-6 6", partial: "M2 8a6 6 0 0 1 12 0z",
  unloaded: "M3 8h10", sleeping: "M11 2.5A6 6 0 1 0 13.5 11 5 5 0 0 1 11 2.5z",
};
function stateMark(state) {
  return el("span", { class: `state ${state}` }, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: STATE_SHAPES[state] ?? "M3 8h10" })), state);
}
