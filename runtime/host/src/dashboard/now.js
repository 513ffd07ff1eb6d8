// What runs now: cards, memory, queue, the last requests, functions; and what it costs.

// Milliseconds between two looks, and how many are drawn: five minutes.
const LOOK_MS = 2000;
const LOOKS = 150;
const history = { running: [], waiting: [] };

const narrow = matchMedia("(max-width: 700px)");

function card(title, value, unit, text) {
  return el("li", { class: "card" }, el("h3", {}, title), el("p", { class: "value" }, value, unit ? el("small", {}, ` ${unit}`) : null), el("p", { class: "text" }, text));
}

function showCards(overview) {
  const { residency, recent, backbones } = overview;
  const states = residency.functions.map((entry) => entry.state);
  const near = states.filter((state) => state === "loaded" || state === "running").length;
  const ttft = (kind) => recent.filter((request) => request.ttft_ns && (request.cold === "warm") === (kind === "warm")).map((request) => request.ttft_ns).sort((a, b) => a - b);
  const [warm, cold] = [ttft("warm"), ttft("cold")];
  const middle = (sorted) => (sorted.length ? time(quantile(sorted, 0.5)) : "–");
  const late = (sorted) => (sorted.length ? `median; p95 ${time(quantile(sorted, 0.95))}, ${sorted.length} of the last ${recent.length}` : "none among the last requests");
  const ready = backbones.filter((backbone) => backbone.state === "ready");
  put($("cards"),
    card("Functions in place", `${near}`, `of ${states.length}`, `policy ${residency.policy}`),
    card("Running", count(residency.running), "calls", `${count(residency.counters.ended)} ended so far`),
    card("Waiting", count(residency.waiting), "calls", `${count(Object.values(residency.counters.refused).reduce((a, b) => a + b, 0))} refused so far`),
    card("First token, warm", middle(warm), "", late(warm)),
    card("First token, cold", middle(cold), "", late(cold)),
    card(backbones.length === 1 ? "Backbone" : "Backbones", `${ready.length}`, `of ${backbones.length} ready`, backbones.map((backbone) => backbone.name).join(", ")));
}

function showMemory({ device, host, uses }) {
  const parts = [
    ["backbone", uses.backbone, 5], ["adapters", uses.adapters, 1], ["KV promised", uses.kv, 0], ["kernels", uses.kernels, 6],
    ["duplicates", uses.duplicates, 3], ["leaving", uses.leaving, 2],
  ].map(([name, value, number]) => [name, value, number, bytes(value)]);
  const used = [["adapters and code", host.used, 4, bytes(host.used)]];
  const tier = (name, its, tierParts) => el("div", { class: "tier" }, el("span", {}, name),
    bar(tierParts, its.capacity, `${name}: ${bytes(its.used)} of ${bytes(its.capacity)} taken`),
    el("span", { class: "of" }, `${bytes(its.used)} of ${bytes(its.capacity)}`));
  put($("memory"), tier("Device", device, parts), tier("Host", host, used),
    legend([...parts, ...used].filter(([, value]) => value).map(([name, , number, said]) => [swatch(number), `${name} ${said}`])));
}

function showQueue({ running, waiting }) {
  for (const [name, value] of [["running", running], ["waiting", waiting]]) {
    history[name].push(value);
    if (history[name].length > LOOKS) history[name].shift();
  }
  const line = (kind) => svg("svg", { class: "line-key", viewBox: "0 0 26 12", "aria-hidden": "true" }, svg("path", { class: `line ${kind}`, d: "M0 6H26" }));
  put($("queue"), lines([["s0", "running", history.running], ["s1", "waiting", history.waiting]], LOOKS, `${running} calls run, ${waiting} wait`),
    legend([[line("s0"), `running ${running}`], [line("s1"), `waiting ${waiting}`]]));
}

let tableOpen = false;
function showStages(recent) {
  const requests = recent.filter((request) => request.ttft_ns);
  if (!requests.length) {
    put($("stages"), el("p", { class: "empty" }, "No request has had its first token yet. Try a function, or call one: its phases appear here."));
    return;
  }
  const there = PHASES.filter((phase) => requests.some((request) => request.phases_ns[phase]));
  const rows = requests.slice(-20).reverse().map((request) => el("tr", {}, el("th", { scope: "row" }, called(request.tenant, request.function)),
    el("td", { class: "text" }, request.cold), el("td", {}, time(request.ttft_ns)), there.map((phase) => el("td", {}, request.phases_ns[phase] ? time(request.phases_ns[phase]) : "")),
    el("td", {}, time(request.took_ns)), el("td", {}, count(request.completion_tokens)), el("td", { class: "text" }, request.outcome)));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Function", "Waited for", "First token", ...there.map((phase) => PHASE_WORDS[phase]), "Whole", "Tokens", "Ended"].map((word) => el("th", { scope: "col", class: ["Waited for", "Ended"].includes(word) ? "text" : null }, word)))), el("tbody", {}, rows));
  const details = el("details", { open: tableOpen }, el("summary", {}, "The last 20 as a table"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The last requests" }, table));
  details.addEventListener("toggle", () => { tableOpen = details.open; });
  const held = document.activeElement?.closest("#stages summary") !== null && document.activeElement?.tagName === "SUMMARY";
  put($("stages"), columns(requests, narrow.matches), legend(there.map((phase) => [swatch(PHASE_FILLS[phase]), PHASE_WORDS[phase]])), details);
  if (held) details.querySelector("summary").focus();
}

let functionsSeen = [];
function functionRow(entry) {
  const { tenant, function: name } = entry.names;
  const at = `admin/v1/functions/${encodeURIComponent(name)}`;
  const query = `?tenant=${encodeURIComponent(tenant)}`;
  const act = (word, label, run) => {
    const button = el("button", { type: "button", "data-act": `${tenant}/${name}/${entry.generation}/${word}`, "aria-label": `${label} ${called(tenant, name)}` }, word);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try { await run(); await look(); } catch (error) { pulse(error.message, true); }
      button.disabled = false;
    });
    return button;
  };
  const inMemory = entry.device_bytes + entry.host_bytes;
  const registered = entry.generation !== null;
  const acts = registered ? [
    inMemory ? act("Sleep", "Put to sleep", () => ask("POST", `${at}/sleep${query}`, { level: 2 })) : act("Warm", "Bring into place", () => ask("POST", `${at}/prewarm${query}`)),
    act(entry.pinned ? "Unpin" : "Pin", entry.pinned ? "Let go" : "Never evict", () => ask("PUT", `${at}/pin${query}`, { pinned: !entry.pinned })),
  ] : [];
  return el("tr", {}, el("th", { scope: "row" }, called(tenant, name), el("small", {}, registered ? `${entry.generation.slice(0, 8)}${entry.pinned ? " · pinned" : ""}` : "the backbone itself")),
    el("td", { class: "text" }, stateMark(entry.state)), el("td", { class: "text" }, entry.tier), el("td", {}, entry.device_bytes ? bytes(entry.device_bytes) : "–"),
    el("td", {}, entry.host_bytes ? bytes(entry.host_bytes) : "–"), el("td", {}, count(entry.leases)), el("td", {}, count(entry.waiting)),
    el("td", {}, entry.idle_ns === null ? "never" : `${time(entry.idle_ns)} ago`), el("td", {}, acts));
}

// The table shows so many; what is searched for is found among all.
const ROWS = 200;
const ORDER = ["running", "loading", "loaded", "partial", "sleeping", "unloaded"];
function showFunctions() {
  const wanted = $("find").value.trim().toLowerCase();
  const found = functionsSeen.filter((entry) => called(entry.names.tenant, entry.names.function).toLowerCase().includes(wanted));
  found.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const held = document.activeElement?.dataset?.act;
  const head = [["Function"], ["State", "text"], ["Tier", "text"], ["Device"], ["Host"], ["Calls"], ["Waiting"], ["Last call"], [""]];
  put($("functions"), el("thead", {}, el("tr", {}, head.map(([word, kind]) => el("th", { scope: "col", class: kind }, word || el("span", { class: "hidden" }, "Actions"))))),
    el("tbody", {}, found.slice(0, ROWS).map(functionRow)));
  if (held) $("functions").querySelector(`[data-act="${CSS.escape(held)}"]`)?.focus();
  $("functions").parentElement.hidden = !found.length;
  const note = functionsSeen.length ? (found.length ? (found.length > ROWS ? `${ROWS} of ${count(found.length)} shown.` : "") : "No function of this name.") : "No function is registered yet. Register one, or put one with: coldframe function deploy.";
  $("functions-note").textContent = note;
}

function showCost(rows, place, withFunction) {
  const paid = rows.some((row) => row.total_nanodollars);
  const weight = (row) => (paid ? row.total_nanodollars : row.device_ns);
  const whole = rows.reduce((sum, row) => sum + weight(row), 0);
  const sorted = [...rows].sort((a, b) => weight(b) - weight(a));
  const head = [withFunction ? "Function" : "Tenant", "Requests", "Prompt tokens", "Answer tokens", "Device time", ...(paid ? ["Own", "Shared", "Total"] : []), "Share"];
  const line = (row) => el("tr", {}, el("th", { scope: "row" }, withFunction ? (row.tenant ? called(row.tenant, row.function ?? "") : "nobody") : row.tenant || "nobody"), el("td", {}, count(row.requests)),
    el("td", {}, count(row.prompt_tokens)), el("td", {}, count(row.completion_tokens)), el("td", {}, time(row.device_ns)), ...(paid ? [row.nanodollars, row.shared_nanodollars.shapley, row.total_nanodollars].map((nano) => el("td", {}, money(nano))) : []),
    el("td", { class: "share" }, whole ? `${digits((100 * weight(row)) / whole, 1)} %` : "–", bar([["share", weight(row), 0, ""]], whole, "")));
  put(place, el("thead", {}, el("tr", {}, head.map((word) => el("th", { scope: "col" }, word)))),
    el("tbody", {}, sorted.length ? sorted.slice(0, ROWS).map(line) : el("tr", {}, el("td", { class: "text", colspan: head.length }, "Nothing was used yet."))));
  return paid;
}

async function lookAtCost() {
  const [tenants, functions] = await Promise.all([read("admin/v1/usage?by=tenant"), read("admin/v1/usage?by=function")]);
  const paid = showCost(tenants.data, $("cost-tenants"), false);
  showCost(functions.data, $("cost-functions"), true);
  $("cost-intro").textContent = paid
    ? "From the ledger, all time, under this server's tariff: what is its own, and its part of the shared backbone by who kept it in place (Shapley)."
    : "From the ledger, all time. This server has no tariff, so that shares are of device time: the engine's steps, split by each call's tokens.";
}
