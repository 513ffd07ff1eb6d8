// Registering a function: by reference or with files; checked first if wanted.

const form = $("register");

function source() {
  return new FormData(form).get("source");
}

function showSource() {
  $("by-reference").hidden = source() !== "reference";
  $("by-upload").hidden = source() !== "upload";
}

async function showBackbones() {
  const { data } = await read("admin/v1/backbones");
  const chosen = form.elements.backbone.value;
  put(form.elements.backbone, data.map((backbone) => el("option", { value: backbone.name }, backbone.name)));
  if (chosen) form.elements.backbone.value = chosen;
}

// What the form says, as the API takes it: JSON, or parts where files come along.
function registration() {
  const fields = form.elements;
  const name = fields.name.value.trim();
  if (!name) throw new Refused(0, "", "Give the function a name.");
  if (!fields.name.checkValidity()) throw new Refused(0, "", "A name is made of letters, digits, dots, dashes and underscores.");
  const spec = { backbone: fields.backbone.value };
  if (source() === "reference") {
    const uri = fields.uri.value.trim();
    if (!uri) throw new Refused(0, "", "Say where the adapter lies, or choose another source.");
    const digest = fields.digest.value.trim();
    spec.adapters = [digest ? { uri, digest } : { uri }];
  }
  const files = source() === "upload" ? [...fields.files.files] : [];
  if (source() === "upload" && !files.length) throw new Refused(0, "", "Choose the adapter's files.");
  const module = fields.module.files[0];
  const tenant = fields.tenant.value.trim();
  const query = tenant ? `?tenant=${encodeURIComponent(tenant)}` : "";
  let body = spec;
  if (files.length || module) {
    body = new FormData();
    body.append("manifest", JSON.stringify(spec));
    files.forEach((file) => body.append("adapter", file, file.name));
    if (module) body.append("module", module, module.name);
  }
  return { name, query, body };
}

function list(title, entries) {
  return entries?.length ? [el("p", {}, title), el("ul", {}, entries.map((entry) => el("li", {}, entry)))] : [];
}

function showDeployed(done) {
  const again = done.changed ? "is registered and answers now" : "was there already, exactly so";
  const link = el("a", { href: `#try=${encodeURIComponent(done.function)}` }, "Try it");
  return told("good", el("p", {}, el("strong", {}, called(done.tenant, done.function)), ` ${again}. `, link), el("p", { class: "soft" }, "Generation ", el("code", {}, done.generation)), list("Look at this:", done.warnings));
}

function showChecked(dry) {
  const problems = dry.problems.map((problem) => `${problem.message}${problem.place ? ` (${problem.place})` : ""}`);
  const size = `${bytes(dry.disk_bytes)} on disk, ${bytes(dry.memory_bytes)} in memory`;
  return told(dry.fits ? "good" : "bad", el("p", {}, dry.fits ? `It fits: ${size}. Nothing was changed.` : "It does not fit. Nothing was changed."), list("In the way:", problems), list("Look at this:", dry.warnings));
}

async function send(check) {
  const buttons = form.querySelectorAll("button");
  const place = $("registered");
  buttons.forEach((button) => { button.disabled = true; });
  put(place, told("good", check ? "Checking…" : "Registering…"));
  try {
    const { name, query, body } = registration();
    const at = `admin/v1/functions/${encodeURIComponent(name)}`;
    const reply = check ? await ask("POST", `${at}/dry-run${query}`, body) : await ask("PUT", `${at}${query}`, body);
    const said = await reply.json();
    put(place, check ? showChecked(said) : showDeployed(said));
  } catch (error) {
    put(place, told("bad", el("p", {}, error.message)));
  }
  buttons.forEach((button) => { button.disabled = false; });
}

form.addEventListener("change", showSource);
form.addEventListener("submit", (event) => { event.preventDefault(); send(false); });
$("dry-run").addEventListener("click", () => send(true));
showSource();
