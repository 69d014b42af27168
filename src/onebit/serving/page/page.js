// The page of `onebit serve`: writes, chats and classifies with the server that it comes from.

import { drawable } from "./draw.js";

const $ = (id) => document.getElementById(id);
const CHAT = "onebit.chat", THEME = "onebit.theme", KEY = "onebit.key";
let models = [], running = null;

// ---- the server

/** Ask the server; asks the user for a key where one is needed. Throws an Error with the server's message. */
async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401 && (await newKey())) return ask(path, options);
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${answer.status}.`);
  }
  return answer;
}

function newKey() {
  const dialog = $("key-dialog");
  $("key").value = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      if ($("key").value) sessionStorage.setItem(KEY, $("key").value);
      done(Boolean($("key").value));
    }, { once: true });
  });
}

/** The values of a stream of events. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function settings() {
  const body = {
    model: $("model").value,
    stream: true,
    stream_options: { include_usage: true },
    temperature: Number($("temperature").value),
    top_p: Number($("top-p").value),
    max_tokens: Number($("length").value) || 200,
  };
  if ($("seed").value !== "") body.seed = Number($("seed").value);
  return body;
}

/** Run a stream; `take` gets each choice. Only one runs at a time. */
async function stream(path, body, take, shown) {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  const began = performance.now();
  let count = 0;
  busy(true);
  shown.classList.add("writing");
  try {
    const answer = await ask(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
    });
    for await (const event of events(answer)) {
      if (event.choices.length) count += 1;
      if (event.usage) count = event.usage.completion_tokens;
      for (const choice of event.choices) take(choice, event);
      rate(count, performance.now() - began);
    }
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    if (running === controller) {
      running = null;
      busy(false);
      shown.classList.remove("writing");
    }
  }
}

function busy(on) {
  $("stop").disabled = $("chat-stop").disabled = !on;
  $("go-on").disabled = on || !$("text").textContent.trim() || $("text").querySelector(".hint") !== null;
}

function rate(count, milliseconds) {
  $("rate").textContent = `${count} tokens, ${Math.round(1000 * count / milliseconds).toLocaleString("en")} a second`;
}

function complain(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// ---- write

/** A token, with its probability under it. */
function token(text, score) {
  if (!score || text.includes("\n")) return document.createTextNode(text); // lines do not end inside a ruby
  const ruby = document.createElement("ruby"), under = document.createElement("rt");
  const share = Math.exp(score.logprob);
  // Lines break at the space before a word, never inside a token.
  const space = /^ +(?=\S)/.exec(text)?.[0] ?? "";
  ruby.append(text.slice(space.length), under);
  under.textContent = share < 0.01 ? "<1" : (100 * share).toFixed(0);
  ruby.style.setProperty("--sure", (0.3 * share).toFixed(3));
  ruby.title = score.top.map(([other, logprob]) => `${JSON.stringify(other)} ${(100 * Math.exp(logprob)).toFixed(1)} %`).join("\n");
  const whole = document.createDocumentFragment();
  whole.append(space, ruby);
  return whole;
}

function write(prompt, keep) {
  const shown = $("text"), body = { ...settings(), prompt };
  if ($("probabilities").checked) body.logprobs = 5;
  complain("");
  if (!keep) {
    const begin = document.createElement("span");
    begin.className = "prompt";
    begin.textContent = prompt;
    shown.replaceChildren(begin);
  }
  return stream("v1/completions", body, (choice) => {
    if (!choice.logprobs) return shown.append(choice.text);
    choice.logprobs.tokens.forEach((text, place) => {
      const top = Object.entries(choice.logprobs.top_logprobs[place] ?? {}).sort((a, b) => b[1] - a[1]);
      shown.append(token(text, { logprob: choice.logprobs.token_logprobs[place], top }));
    });
  }, shown);
}

/** The text so far, without the numbers under it. */
function written() {
  const copy = $("text").cloneNode(true);
  copy.querySelectorAll("rt").forEach((number) => number.remove());
  return copy.textContent;
}

$("write-form").addEventListener("submit", (event) => {
  event.preventDefault();
  write($("prompt").value, false);
});
$("go-on").addEventListener("click", () => write(written(), true));
$("stop").addEventListener("click", () => running?.abort());

// ---- chat

let chat = [];

function showChat() {
  $("messages").replaceChildren(...chat.map(({ role, content }) => {
    const item = document.createElement("li");
    item.dataset.role = role;
    item.setAttribute("aria-label", role === "user" ? "You" : "The model");
    item.textContent = content;
    return item;
  }));
  if (!chat.length) {
    const hint = document.createElement("li");
    hint.className = "hint";
    hint.textContent = "No messages yet.";
    $("messages").append(hint);
  }
}

function keepChat() {
  try {
    localStorage.setItem(CHAT, JSON.stringify(chat));
  } catch {
    complain("This browser keeps no chats: export it instead.");
  }
}

/** The messages of a text in JSON. Throws an Error if they are not a chat. */
function readChat(text) {
  const found = JSON.parse(text);
  const messages = Array.isArray(found) ? found : found.messages;
  if (!Array.isArray(messages) || !messages.every((m) => ["system", "user", "assistant"].includes(m?.role) && typeof m.content === "string")) {
    throw new Error("This file is not a chat.");
  }
  return messages.map(({ role, content }) => ({ role, content }));
}

async function say(content) {
  chat.push({ role: "user", content });
  const messages = [...chat];
  const answer = { role: "assistant", content: "" };
  chat.push(answer);
  showChat();
  complain("");
  const last = $("messages").lastElementChild;
  await stream("v1/chat/completions", { ...settings(), messages }, (choice, event) => {
    if (event.onebit?.note) {
      $("note").textContent = `Note: ${event.onebit.note}.`;
      $("note").hidden = false;
    }
    answer.content += choice.delta.content ?? "";
    last.textContent = answer.content;
  }, last);
  keepChat();
}

$("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = $("say").value.trim();
  if (!content) return;
  $("say").value = "";
  say(content);
});
$("chat-stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  chat = [];
  showChat();
  keepChat();
});
$("export").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ messages: chat }, null, 1)], { type: "application/json" }));
  link.download = "chat.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", async () => {
  try {
    chat = readChat(await $("import-file").files[0].text());
    complain("");
    showChat();
    keepChat();
  } catch (error) {
    complain(error instanceof SyntaxError ? "This file is not a chat." : error.message);
  }
  $("import-file").value = "";
});

// ---- classify

async function classify(picture) {
  complain("");
  try {
    const path = `v1/classify?model=${encodeURIComponent($("model").value)}&top_k=10`;
    const answer = await ask(path, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: await picture() });
    const labels = await answer.json();
    $("labels").replaceChildren(...labels.map(bar));
  } catch (error) {
    complain(error.message);
  }
}

function bar({ label, score }) {
  const item = document.createElement("li"), name = document.createElement("span"), number = document.createElement("span");
  const frame = document.createElement("span"), filled = document.createElement("span");
  name.textContent = label;
  frame.className = "bar";
  frame.append(filled);
  filled.style.setProperty("--share", score);
  number.className = "number";
  number.textContent = `${(100 * score).toFixed(1)} %`;
  item.append(name, frame, number);
  return item;
}

const drawing = drawable($("canvas"), classify);
$("wipe").addEventListener("click", () => {
  drawing.wipe();
  $("labels").replaceChildren();
});
$("invert").addEventListener("change", () => drawing.invert($("invert").checked));
$("choose").addEventListener("click", () => $("picture").click());
$("picture").addEventListener("change", () => {
  if ($("picture").files.length) drawing.show($("picture").files[0]);
  $("picture").value = "";
});

// ---- the page

const tabs = [...document.querySelectorAll("[role=tab]")];

function open(tab) {
  running?.abort();
  complain("");
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  $("settings").hidden = tab.id === "tab-classify";
  listModels(tab.id !== "tab-classify");
}

function listModels(writing) {
  const fitting = models.filter((model) => (model.kind !== "image-classification") === writing);
  $("model").replaceChildren(...fitting.map((model) => {
    const choice = document.createElement("option");
    choice.value = model.id;
    choice.textContent = `${model.id} (${(model.bytes / 1e6).toFixed(model.bytes < 1e6 ? 2 : 1)} MB)`;
    return choice;
  }));
}

for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const usable = tabs.filter((other) => !other.hidden);
    const next = usable[(usable.indexOf(tab) + step + usable.length) % usable.length];
    next.focus();
    open(next);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form?.requestSubmit();
});
for (const id of ["temperature", "top-p"]) {
  $(id).addEventListener("input", () => ($(`${id}-shown`).textContent = $(id).value));
}
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  theme(now === "dark" ? "light" : "dark");
});

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  localStorage.setItem(THEME, name ?? "");
}

async function start() {
  theme(localStorage.getItem(THEME) || undefined);
  try {
    chat = readChat(localStorage.getItem(CHAT) ?? "[]");
  } catch {
    chat = [];
  }
  showChat();
  try {
    models = (await (await ask("v1/models")).json()).data;
  } catch (error) {
    complain(error.message);
    return;
  }
  const writes = models.some((model) => model.kind !== "image-classification");
  const sees = models.some((model) => model.kind === "image-classification");
  $("tab-write").hidden = $("tab-chat").hidden = !writes;
  $("tab-classify").hidden = !sees;
  open(writes ? $("tab-write") : $("tab-classify"));
}

start();
