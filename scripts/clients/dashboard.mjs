// The dashboard in headless Chromium, as a user has it: node dashboard.mjs [FOLDER for pictures].
//
// COLDFRAME_URL (http://127.0.0.1:8000) and COLDFRAME_API_KEY say where and who (an operator's key); COLDFRAME_ADAPTER is
// a folder that the server may register from. CHROMIUM names the browser. Every complaint of the browser fails it.

import assert from "node:assert";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const url = process.env.COLDFRAME_URL ?? "http://127.0.0.1:8000";
const secret = process.env.COLDFRAME_API_KEY ?? "";
const adapter = process.env.COLDFRAME_ADAPTER;
const pictures = process.argv[2];
const profile = mkdtempSync(join(tmpdir(), "coldframe-dashboard-"));
const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
const browser = spawn(process.env.CHROMIUM ?? "chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });

// The browser's protocol: JSON texts, each ended by a zero byte.
const waiting = new Map();
const complaints = [];
let [number, rest, session] = [0, "", undefined];
browser.stdio[4].on("data", (bytes) => {
    rest += bytes;
    const texts = rest.split("\0");
    rest = texts.pop();
    for (const text of texts) heard(JSON.parse(text));
});
function heard({ id, result, error, method, params }) {
    if (id) {
        const { resolve, reject } = waiting.get(id);
        waiting.delete(id);
        return error ? reject(new Error(error.message)) : resolve(result);
    }
    if (method === "Runtime.exceptionThrown") complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    // What the server refuses (no key yet, a bad address) the browser notes as well; that is no fault of the page.
    if (method === "Log.entryAdded" && params.entry.source !== "network") complaints.push(params.entry.text);
}
function tell(method, params = {}) {
    number += 1;
    browser.stdio[3].write(`${JSON.stringify({ id: number, method, params, sessionId: session })}\0`);
    return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

async function evaluate(expression) {
    const { result, exceptionDetails } = await tell("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    assert(!exceptionDetails, exceptionDetails?.exception?.description);
    return result.value;
}
async function until(expression, what, seconds = 60) {
    for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
        if (await evaluate(expression)) return;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${what}: not within ${seconds} s; ${await evaluate("document.body.innerText.slice(0, 600)")}`);
}
const KEYS = { Enter: { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: "\r" }, Tab: { key: "Tab", code: "Tab", windowsVirtualKeyCode: 9 } };
async function press(name) {
    await tell("Input.dispatchKeyEvent", { type: "keyDown", ...KEYS[name] });
    await tell("Input.dispatchKeyEvent", { type: "keyUp", ...KEYS[name], text: undefined });
}
const type = (text) => tell("Input.insertText", { text });
const focus = (selector) => evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`);
const fill = async (selector, text) => { await evaluate(`document.querySelector(${JSON.stringify(selector)}).value = ""`); await focus(selector); await type(text); };
const click = (selector) => evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
const go = (view) => evaluate(`location.hash = ${JSON.stringify(`#${view}`)}`);

let wide = 0;
async function look({ width, dark }) {
    wide = width;
    await tell("Emulation.setDeviceMetricsOverride", { width, height: width < 700 ? 844 : 900, deviceScaleFactor: 1, mobile: width < 700 });
    await tell("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
}
async function picture(name) {
    const overflow = await evaluate(`document.scrollingElement.scrollWidth - ${wide}`);
    assert(overflow <= 0, `${name}: the page is ${overflow} px wider than the window`);
    if (!pictures) return;
    const { data } = await tell("Page.captureScreenshot", { captureBeyondViewport: true, format: "png" });
    writeFileSync(join(pictures, `${name}.png`), Buffer.from(data, "base64"));
}

async function run() {
    const { targetId } = await tell("Target.createTarget", { url: "about:blank" });
    ({ sessionId: session } = await tell("Target.attachToTarget", { targetId, flatten: true }));
    for (const domain of ["Runtime", "Log", "Page"]) await tell(`${domain}.enable`);
    await look({ width: 1280, dark: false });
    await tell("Page.navigate", { url });

    await until("document.querySelector('#key-dialog')?.open", "the dialogue for the key");
    await picture("key");
    await fill("#key", secret);
    await press("Enter");
    await until("document.querySelectorAll('#cards .card').length >= 5", "the cards");
    assert.equal(await evaluate("sessionStorage.length + localStorage.length + document.cookie.length"), 1, "the key, in this tab, and nothing else");

    await evaluate("document.activeElement.blur()");
    const reached = [];
    for (let step = 0; step < 8; step += 1) {
        await press("Tab");
        reached.push(await evaluate("document.activeElement.textContent.trim() || document.activeElement.id"));
    }
    for (const name of ["Skip to the content", "Key", "Now", "Cost", "Register", "Try"]) assert(reached.includes(name), `Tab reaches ${name}: ${reached}`);

    await go("register");
    await until("document.querySelector('#register [name=backbone]').value", "the backbones");
    await fill("#register [name=name]", "from-the-page");
    await fill("#register [name=uri]", "file:///nowhere");
    await click("#dry-run");
    await until("document.querySelector('#registered .problem')", "a refusal in words");
    await picture("register-refused");
    if (adapter) {
        await fill("#register [name=uri]", `file://${adapter}`);
        await click("#dry-run");
        await until("document.querySelector('#registered')?.innerText.includes('It fits')", "a dry run");
        await focus("#register [name=name]");
        await press("Enter");
        await until("document.querySelector('#registered a')", "a registration");
        await picture("register");
        await click("#registered a");
        await until("document.querySelector('#try-model').value === 'from-the-page'", "the function to try");
    } else await go("try");

    await until("document.querySelector('#try-model').value", "something to try");
    await fill("#try-tokens", "40");
    await fill("#message", "What do penguins eat?");
    await press("Enter");
    await until("document.querySelector('#talk .meta')", "an answer", 180);
    assert(await evaluate("document.querySelector('#talk .assistant .text').innerText.trim().length > 0"), "the answer has text");
    assert(await evaluate("document.querySelectorAll('#talk .assistant .bar .part').length > 0"), "the answer has phases");
    await picture("try");

    for (const [name, width, dark] of [["light", 1280, false], ["dark", 1280, true], ["phone", 390, false], ["phone-dark", 390, true]]) {
        await look({ width, dark });
        for (const view of ["now", "cost", "register", "try"]) {
            await go(view);
            if (view === "now") await until("document.querySelectorAll('#stages svg.plot g').length > 0 && document.querySelectorAll('#functions tbody tr').length > 0", "charts and functions");
            if (view === "cost") await until("document.querySelectorAll('#cost-functions tbody tr').length > 0", "the ledger");
            await new Promise((resolve) => setTimeout(resolve, view === "now" ? 2500 : 400));
            await picture(`${view}-${name}`);
        }
    }
    assert.deepEqual(complaints, [], "the browser has nothing to say");
}

let failed = null;
try { await run(); } catch (error) { failed = error; }
// Asked to close, it waits for its own children, who still write to the profile.
const gone = new Promise((resolve) => browser.once("exit", resolve));
session = undefined;
tell("Browser.close").catch(() => browser.kill());
await gone;
rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
if (failed) {
    console.error(failed.message, complaints);
    process.exit(1);
}
console.log("the dashboard works: key, keyboard, registration, a streamed answer; light and dark, 1280 and 390 px");
