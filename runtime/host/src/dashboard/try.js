// Trying a function: a conversation that streams, with where the time before its first token went.

let talk = [];
let under = null;

async function showModels(wanted) {
  const { data } = await read("v1/models");
  const chosen = wanted || $("try-model").value;
  put($("try-model"), data.map((model) => el("option", { value: model.id }, model.parent ? model.id : `${model.id} (no function)`)));
  const first = data.find((model) => model.parent) ?? data[0];
  $("try-model").value = data.some((model) => model.id === chosen) ? chosen : first?.id ?? "";
}

function said(role, who, text) {
  const words = el("p", { class: "text" }, text);
  const item = el("li", { class: role }, el("p", { class: "who" }, who), words);
  $("talk").append(item);
  return { item, words };
}

// `Server-Timing`: names with milliseconds; `cold` has a word.
function timings(header) {
  const found = { phases: {} };
  for (const part of (header ?? "").split(",")) {
    const name = part.trim().split(";")[0];
    const ms = Number(/dur=([\d.]+)/.exec(part)?.[1] ?? NaN);
    if (name === "cold") found.cold = /desc="([^"]*)"/.exec(part)?.[1];
    else if (name === "ttft") found.ttft = ms * 1e6;
    else if (PHASES.includes(name) && ms > 0) found.phases[name] = ms * 1e6;
  }
  return found;
}

function showTimings(item, found, tokens, seconds) {
  const rate = tokens > 1 && seconds > 0 ? `, ${count(tokens)} tokens, ${digits((tokens - 1) / seconds, 1)} a second` : "";
  const cold = found.cold && found.cold !== "warm" ? `cold (from ${found.cold})` : "warm";
  item.append(el("p", { class: "meta" }, found.ttft ? `${cold}: first token after ${time(found.ttft)}${rate}` : `${count(tokens)} tokens`));
  const parts = PHASES.filter((phase) => found.phases[phase]).map((phase) => [PHASE_WORDS[phase], found.phases[phase], PHASE_FILLS[phase], time(found.phases[phase])]);
  if (parts.length) {
    item.append(bar(parts, parts.reduce((sum, [, value]) => sum + value, 0), "Where the time before the first token went"),
      legend(parts.map(([name, , number, words]) => [swatch(number), `${name} ${words}`])));
  }
}

// Events of a stream, one at a time: `data:` lines up to an empty one.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r", "");
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, end).split("\n").filter((text) => text.startsWith("data:"));
      rest = rest.slice(end + 2);
      if (lines.length) yield lines.map((text) => text.slice(5).trim()).join("\n");
    }
  }
}

async function answer(model) {
  const { item, words } = said("assistant", model, "");
  under = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  let [text, tokens, first, found] = ["", 0, 0, { phases: {} }];
  try {
    const body = { model, messages: talk, stream: true, stream_options: { include_usage: true }, temperature: Number($("try-temperature").value), max_tokens: Number($("try-tokens").value) };
    const reply = await ask("POST", "v1/chat/completions", body, under.signal);
    found = timings(reply.headers.get("server-timing"));
    for await (const data of events(reply.body)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(0, event.error.code, event.error.message);
      const piece = event.choices?.[0]?.delta?.content ?? "";
      if (piece && !first) first = performance.now();
      text += piece;
      tokens = event.usage?.completion_tokens ?? tokens;
      words.textContent = text;
    }
    talk.push({ role: "assistant", content: text });
  } catch (error) {
    if (error.name === "AbortError") talk.push({ role: "assistant", content: text });
    else item.append(told("bad", el("p", {}, error.message)));
  }
  showTimings(item, found, tokens, first ? (performance.now() - first) / 1000 : 0);
  under = null;
  $("send").disabled = false;
  $("stop").disabled = true;
  $("message").focus();
}

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || under) return;
  $("message").value = "";
  said("user", "You", text);
  talk.push({ role: "user", content: text });
  answer($("try-model").value);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});
$("stop").addEventListener("click", () => under?.abort());
function startOver() {
  under?.abort();
  talk = [];
  put($("talk"));
}
$("clear").addEventListener("click", startOver);
$("try-model").addEventListener("change", startOver);
