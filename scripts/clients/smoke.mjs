// The official OpenAI JavaScript client against a running host: node smoke.mjs (needs `npm install openai`; NODE_PATH or
// COLDFRAME_NODE_MODULES says where it was installed).
//
// COLDFRAME_URL (http://127.0.0.1:8000/v1), COLDFRAME_API_KEY and COLDFRAME_MODEL_NAME say where, who and which function.

import assert from "node:assert";
import { createRequire } from "node:module";

const folder = process.env.COLDFRAME_NODE_MODULES;
const OpenAI = createRequire(folder ? `${folder}/` : import.meta.url)("openai").default;

const model = process.env.COLDFRAME_MODEL_NAME;
const client = new OpenAI({
    baseURL: process.env.COLDFRAME_URL ?? "http://127.0.0.1:8000/v1",
    apiKey: process.env.COLDFRAME_API_KEY ?? "none",
    maxRetries: 0,
});
const messages = [{ role: "user", content: "Say hello." }];
const ask = (more) => client.chat.completions.create({ model, messages, max_tokens: 16, seed: 1, temperature: 0, ...more });

const models = [];
for await (const card of client.models.list()) models.push(card.id);
assert(models.includes(model), models.join());
assert.equal((await client.models.retrieve(model)).id, model);

const whole = await ask({});
assert.equal(whole.model, model);
console.log("chat:", whole.choices[0].message.content.trim());

let text = "";
let usage;
for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);

const completion = await client.completions.create({ model, prompt: "Once upon", max_tokens: 8 });
assert(completion.choices[0].text);

const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false };
const shaped = await ask({
    max_tokens: 64,
    response_format: { type: "json_schema", json_schema: { name: "person", schema, strict: true } },
});
assert(shaped.choices[0].message.content.trimStart().startsWith("{"));

const parameters = {
    type: "object",
    properties: { city: { type: "string", maxLength: 16 } },
    required: ["city"],
    additionalProperties: false,
};
const named = { type: "function", function: { name: "get_weather" } };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const called = await ask({ max_tokens: 64, tools, tool_choice: named });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "get_weather");

await assert.rejects(ask({ model: "no-such-function" }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
await assert.rejects(ask({ temperature: 9 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");

const abort = new AbortController();
const stream = await client.chat.completions.create({ model, messages, stream: true }, { signal: abort.signal });
for await (const _ of stream) abort.abort();
console.log("openai for JavaScript: all well");
