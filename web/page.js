// The page: a model is dropped or chosen, writes or classifies. Everything is computed by worker.js.
import { draw, fit, pixelsOf } from "./pictures.js";

const $ = (id) => document.getElementById(id);

// What `onebit export web` puts into data.js: {name, worker, wasm, model}, a page of one model. It also opens from a file: address, where browsers
// load neither modules nor data.
const site = globalThis.onebitSite ?? null;
const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

// What the worker is asked, by number; onText hears pieces of a text.
const worker =
  site === null
    ? new Worker(new URL("worker.js", import.meta.url), { type: "module" })
    : new Worker(URL.createObjectURL(new Blob([site.worker], { type: "text/javascript" })));
const asked = new Map();
let last = 0;

function ask(what, message = {}, onText = null) {
  const id = ++last;
  const answer = new Promise((resolve, reject) => asked.set(id, { resolve, reject, onText }));
  worker.postMessage({ id, do: what, ...message });
  return { id, answer };
}

worker.onmessage = ({ data }) => {
  const { resolve, reject, onText } = asked.get(data.id);
  if ("text" in data) return onText(data.text);
  asked.delete(data.id);
  if ("error" in data) reject(new Error(data.error));
  else resolve(data.done);
};
worker.onerror = (event) => tell(event.message || "The worker could not start: serve this folder by a web server, such as python -m http.server");

function tell(message) {
  $("error").textContent = message;
  $("error").hidden = message === "";
}

let model = null;
let writing = null; // the number of the text that is being written

async function take(file, name) {
  tell("");
  try {
    model = await ask("load", { file, options: site === null ? {} : { wasm: bytesOf(site.wasm) } }).answer;
  } catch (error) {
    return tell(`${name}: ${error.message}`);
  }
  const bytes = file.byteLength.toLocaleString("en");
  const what = model.kind === "tokens" ? `a text of up to ${model.context} tokens` : `pictures of ${model.inputShape.slice(0, 2).join(" x ")}`;
  const memory = Math.ceil(model.memoryBytes / 1000).toLocaleString("en");
  $("about").textContent = `${name}: ${bytes} bytes, ${what}. It takes ${memory} kB of memory.`;
  $("text").hidden = model.kind !== "tokens";
  $("image").hidden = model.kind !== "arrays" || model.labels.length === 0;
  $("drawing").hidden = model.inputShape.at(-1) !== 1;
  if (model.kind === "arrays" && model.labels.length === 0) tell("This model has no labels: it can be run by onebit.js, but not shown here.");
  $("written").textContent = $("speed").textContent = "";
  clear();
}

async function write() {
  const prompt = $("prompt").value;
  const options = Object.fromEntries(["tokens", "temperature", "topK", "seed"].map((name) => [name, Number($(name).value)]));
  const start = document.createElement("span");
  start.className = "prompt";
  start.textContent = prompt;
  const text = document.createTextNode("");
  $("written").replaceChildren(start, text);
  $("start").disabled = true;
  $("stop").disabled = false;
  $("speed").textContent = "";
  tell("");
  const { id, answer } = ask("generate", { prompt, options }, (piece) => text.appendData(piece));
  writing = id;
  try {
    const { tokens, millisecondsPerToken } = await answer;
    const speed = millisecondsPerToken === null ? "" : `, ${millisecondsPerToken.toFixed(2)} ms each`;
    $("speed").textContent = `${tokens} tokens${speed}`;
  } catch (error) {
    tell(error.message);
  } finally {
    writing = null;
    $("start").disabled = false;
    $("stop").disabled = true;
  }
}

async function classify(pixels) {
  const [height, width, channels] = model.inputShape;
  draw($("seen"), pixels, width, height, channels);
  const labels = await ask("classify", { pixels, top: 10 }).answer;
  $("labels").replaceChildren(
    ...labels.map(({ label, probability }) => {
      const item = document.createElement("li");
      const name = document.createElement("span"), share = document.createElement("span"), meter = document.createElement("meter");
      name.textContent = label;
      meter.value = probability;
      meter.ariaHidden = "true";
      share.textContent = `${(100 * probability).toFixed(1)} %`;
      item.append(name, meter, share);
      return item;
    }),
  );
}

async function classifyFile(file) {
  tell("");
  try {
    const bitmap = await createImageBitmap(file);
    await classify(pixelsOf(bitmap, model.inputShape));
    bitmap.close();
  } catch (error) {
    tell(`${file.name}: ${error.message}`);
  }
}

// Drawing: white strokes on black, as digits were scanned.
const canvas = $("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
let stroke = false;

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  $("labels").replaceChildren();
  $("seen").getContext("2d").clearRect(0, 0, $("seen").width, $("seen").height);
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  stroke = true;
  Object.assign(pen, { strokeStyle: "#fff", lineWidth: 28, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  pen.moveTo(...place(event));
  pen.lineTo(...place(event));
  pen.stroke();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  pen.lineTo(...place(event));
  pen.stroke();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (!stroke) return;
    stroke = false;
    const drawn = fit(canvas, model.inputShape);
    if (drawn !== null) classify(drawn).catch((error) => tell(error.message));
  });
}
$("clear").addEventListener("click", clear);

$("write").addEventListener("submit", (event) => {
  event.preventDefault();
  if (writing === null) write();
});
$("stop").addEventListener("click", () => worker.postMessage({ id: writing, do: "stop" }));
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (file) take(await file.arrayBuffer(), file.name);
});
$("picture").addEventListener("change", () => {
  const [file] = $("picture").files;
  if (file) classifyFile(file);
});

// A model or a picture, dropped anywhere.
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (!file) return;
  if (!file.type.startsWith("image/")) return take(await file.arrayBuffer(), file.name);
  if (model === null || model.labels.length === 0) return tell("Drop a model that classifies first, then a picture.");
  classifyFile(file);
});

// Models that lie next to the page.
async function examples() {
  const list = await (await fetch("models.json")).json();
  for (const { file, name } of list) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", async () => {
      const answer = await fetch(file);
      if (answer.ok) take(await answer.arrayBuffer(), file);
      else tell(`${file}: the server answers ${answer.status}; put it next to the page`);
    });
    $("examples").append(button);
  }
  $("examples").hidden = list.length === 0;
}
clear();
if (site === null) {
  examples().catch(() => {}); // a page without models to choose from still takes dropped ones
} else {
  $("drop").hidden = true;
  take(bytesOf(site.model), site.name);
}
