// Which page is shown, when the server is asked, and the dialogue for the key.

const VIEWS = ["now", "cost", "register", "try"];
let view = "now";

function pulse(text, bad = false) {
  $("pulse").textContent = text;
  $("pulse").classList.toggle("bad", bad);
}

function askForKey(problem = "") {
  $("key-problem").textContent = problem;
  $("key").value = key.get();
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function failed(error) {
  if (error.status === 401) {
    pulse("A key is needed.", true);
    askForKey(key.get() ? error.message : "");
  } else if (error.status === 403) pulse("This key may try functions; an admin or operator key sees the rest.", true);
  else if (error instanceof TypeError) pulse("The server does not answer.", true);
  else pulse(error.message, true);
}

async function look() {
  const overview = await read("admin/v1/overview");
  functionsSeen = overview.residency.functions;
  showCards(overview);
  showMemory(overview.residency);
  showQueue(overview.residency);
  showStages(overview.recent);
  showFunctions();
  pulse(`Live, up ${time(overview.residency.at_ns)}`);
}

const LOOKS_AT = { now: look, cost: lookAtCost, register: showBackbones, try: () => showModels(decodeURIComponent(location.hash.split("=")[1] ?? "")) };

let turn = 0;
async function again() {
  const mine = ++turn;
  clearTimeout(again.timer);
  // A hidden tab asks nothing; a dialogue that waits for a key neither.
  if (!document.hidden && !$("key-dialog").open) {
    try { await LOOKS_AT[view](); if (view !== "now") pulse("Live"); } catch (error) { failed(error); }
  }
  const repeats = view === "now" ? LOOK_MS : view === "cost" ? 5 * LOOK_MS : 0;
  if (repeats && mine === turn) again.timer = setTimeout(again, repeats);
}

function show(moved) {
  const wanted = location.hash.slice(1).split("=")[0];
  view = VIEWS.includes(wanted) ? wanted : "now";
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `Coldframe: ${view}`;
  if (moved) $("main").focus({ preventScroll: true });
  again();
}

$("key-open").addEventListener("click", () => askForKey());
$("key-close").addEventListener("click", () => $("key-dialog").close());
$("key-forget").addEventListener("click", () => { key.set(""); $("key").value = ""; $("key-dialog").close(); });
$("key-form").addEventListener("submit", () => key.set($("key").value.trim()));
$("key-dialog").addEventListener("close", () => { $("key").value = ""; again(); });
$("find").addEventListener("input", showFunctions);
narrow.addEventListener("change", again);
addEventListener("hashchange", () => show(true));
document.addEventListener("visibilitychange", again);
read("version").then(({ version }) => { $("version").textContent = `Coldframe ${version}`; }, () => {});
show(false);
