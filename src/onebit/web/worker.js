// Computes in a worker, so that the page stays responsive. Each message is answered with the same `id`; page.js shows how to use it:
//   {id, do: "load", file, options}        {id, done: what the model says of itself}; a model that was loaded before is closed
//   {id, do: "generate", prompt, options}  {id, text} about every 16 ms, then {id, done: {tokens, millisecondsPerToken}}
//   {id, do: "classify", pixels, top}      {id, done: [{label, probability}]}
//   {id, do: "run", pixels}                {id, done: Float32Array}
//   {id, do: "stop"}                       ends the text with this id
// An error is {id, error: message}.
import { load } from "./onebit.js";

const RESPONSIVE_MS = 16; // "stop" is heard at least so often

let model = null;
const writing = new Map(); // id: AbortController

// Lets other messages in. A timer would wait 4 ms.
const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();
const others = () =>
  new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });

function loaded() {
  if (model === null) throw new Error("[worker] no model: load one first");
  return model;
}

const tasks = {
  async load({ file, options }) {
    const next = await load(file, options);
    for (const text of writing.values()) text.abort();
    model?.close();
    model = next;
    return { ...next };
  },
  run: ({ pixels }) => loaded().run(pixels),
  classify: ({ pixels, top }) => loaded().classify(pixels, { top }),
  async generate({ id, prompt, options }) {
    const stop = new AbortController();
    writing.set(id, stop);
    try {
      let tokens = 0, spent = 0, given = "";
      let before = performance.now(), told = before;
      for await (const { token, text } of loaded().generate(prompt, { ...options, signal: stop.signal })) {
        const now = performance.now();
        if (tokens > 0) spent += now - before; // the first token took reading the prompt too
        if (token >= 0) ++tokens;
        given += text;
        if (now - told >= RESPONSIVE_MS) {
          postMessage({ id, text: given });
          given = "";
          await others();
          told = performance.now();
        }
        before = performance.now();
      }
      postMessage({ id, text: given });
      return { tokens, millisecondsPerToken: tokens > 1 ? spent / (tokens - 1) : null };
    } finally {
      writing.delete(id);
    }
  },
};

onmessage = async ({ data }) => {
  if (data.do === "stop") return writing.get(data.id)?.abort();
  try {
    postMessage({ id: data.id, done: await tasks[data.do](data) });
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
};
