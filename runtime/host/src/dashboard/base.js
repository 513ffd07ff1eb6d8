// What every page of the dashboard uses: elements, numbers in words, the key, and questions to the server.

const $ = (id) => document.getElementById(id);

// An element: `el("p", {class: "soft"}, "text", other)`. Text is never read as markup.
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  return filled(made, attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function put(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

const digits = (value, places) => value.toLocaleString("en", { maximumFractionDigits: places, minimumFractionDigits: 0 });

// Three digits say enough; the unit follows the size.
function scaled(value, units, step) {
  let at = 0;
  while (Math.abs(value) >= step && at < units.length - 1) { value /= step; at += 1; }
  return `${digits(value, value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[at]}`;
}
const bytes = (value) => (value ? scaled(value, ["B", "KiB", "MiB", "GiB", "TiB"], 1024) : "0 B");
const count = (value) => (value < 1e5 ? digits(value, 0) : scaled(value, ["", "k", "M", "G"], 1000).trim());
function time(ns) {
  if (!ns) return "0 ms";
  if (ns < 1e6) return `${digits(ns / 1e3, 0)} µs`;
  if (ns < 1e9) return `${digits(ns / 1e6, ns < 1e7 ? 1 : 0)} ms`;
  if (ns < 60e9) return `${digits(ns / 1e9, 1)} s`;
  if (ns < 3600e9) return `${digits(ns / 60e9, 1)} min`;
  return `${digits(ns / 3600e9, 1)} h`;
}
// 10⁻⁹ dollars.
const money = (nano) => `$${(nano / 1e9).toFixed(nano && nano < 1e7 ? 6 : 2)}`;

const quantile = (sorted, share) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null);

// The key: in this tab only.
const KEY = "coldframe-key";
const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function headers(more = {}) {
  const secret = key.get();
  return secret ? { authorization: `Bearer ${secret}`, ...more } : more;
}

// Asks the server; an answer that is no success is thrown with the server's own words.
async function ask(method, path, body, signal) {
  const json = body !== undefined && !(body instanceof FormData);
  const sent = json ? JSON.stringify(body) : body;
  const reply = await fetch(path, { method, headers: headers(json ? { "content-type": "application/json" } : {}), body: sent, signal });
  if (!reply.ok) throw await refusal(reply);
  return reply;
}

async function refusal(reply) {
  let error = {};
  try { error = (await reply.json()).error ?? {}; } catch { /* no JSON: the status has to do */ }
  return new Refused(reply.status, error.code ?? "", error.message ?? `the server answered ${reply.status}`);
}

const read = async (path) => (await ask("GET", path)).json();

function told(kind, ...children) {
  return el("div", { class: kind === "bad" ? "told problem" : "told" }, children);
}

// The default tenant's functions go by their name alone.
const called = (tenant, name) => (tenant === "default" ? name : `${tenant}/${name}`);
