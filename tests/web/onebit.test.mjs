// What onebit.js promises: node --test tests/web/onebit.test.mjs, after make wasm.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const site = new URL("../../build/web/", import.meta.url);
const { load, softmax, OnebitError } = await import(new URL("onebit.js", site));
const file = (name) => readFile(new URL(name, site));
const books = await file("books-10m.onebit"), digits = await file("digits.onebit");

async function written(model, prompt, options) {
  let text = "", tokens = 0;
  for await (const piece of model.generate(prompt, options)) {
    text += piece.text;
    tokens += piece.token >= 0 ? 1 : 0;
  }
  return { text, tokens };
}

test("a model tells what it is", async () => {
  const text = await load(books), image = await load(digits, { precision: "float32" });
  assert.equal(text.kind, "tokens");
  assert.equal(text.context, 256);
  assert.equal(text.vocabularySize, 4096);
  assert.equal(text.isa, "wasm");
  assert.deepEqual(text.labels, []);
  assert.equal(image.kind, "arrays");
  assert.deepEqual(image.inputShape, [16, 16, 1]);
  assert.deepEqual(image.labels, [..."0123456789"]);
  assert.equal(image.precision, "float32");
  text.close();
  image.close();
});

test("a seed gives the same text twice, and another seed another one", async () => {
  const model = await load(books);
  const options = { tokens: 40, temperature: 1, topK: 0 };
  const first = await written(model, "It was", { ...options, seed: 7 });
  assert.deepEqual(await written(model, "It was", { ...options, seed: 7 }), first);
  assert.notDeepEqual(await written(model, "It was", { ...options, seed: 8 }), first);
  model.close();
});

test("two texts at once do not disturb each other", async () => {
  const model = await load(books);
  const options = { tokens: 30, temperature: 0 };
  const alone = [await written(model, "The king", options), await written(model, "A ship", options)];
  assert.deepEqual(await Promise.all([written(model, "The king", options), written(model, "A ship", options)]), alone);
  model.close();
});

test("stop texts end a text before them", async () => {
  const model = await load(books);
  const whole = (await written(model, "It was", { tokens: 60, temperature: 0 })).text;
  const stop = whole.slice(20, 26);
  const { text } = await written(model, "It was", { tokens: 60, temperature: 0, stop: ["never written", stop] });
  assert.equal(text, whole.slice(0, whole.indexOf(stop)));
  model.close();
});

test("a signal ends a text", async () => {
  const model = await load(books), control = new AbortController();
  let tokens = 0;
  for await (const { token } of model.generate("", { tokens: 1000, signal: control.signal })) {
    if (token >= 0 && ++tokens === 5) control.abort();
  }
  assert.equal(tokens, 5);
  model.close();
});

test("texts come back from their tokens", async () => {
  const model = await load(books);
  for (const text of ["", "It was a dark night.", "señor — 漢字 🙂\n\ttab", "a\u0000b"]) {
    assert.equal(model.decode(model.encode(text)), text);
  }
  model.close();
});

test("images are run one or many at a time", async () => {
  const model = await load(digits);
  const pixels = Uint8Array.from({ length: 3 * 256 }, (_, i) => (i * 37) % 256);
  const all = model.run(pixels), floats = model.run(Float32Array.from(pixels, (x) => x / 255));
  assert.equal(all.length, 30);
  assert.deepEqual([...all.slice(10, 20)], [...model.run(pixels.subarray(256, 512))]);
  assert.ok(all.every((x, i) => Math.abs(x - floats[i]) < 1e-4));
  const labels = model.classify(pixels.subarray(0, 256), { top: 3 });
  const shares = softmax(all.slice(0, 10), model.task.temperature ?? 1);
  assert.equal(labels.length, 3);
  assert.equal(labels[0].label, model.labels[shares.indexOf(Math.max(...shares))]);
  assert.ok(Math.abs(shares.reduce((a, b) => a + b) - 1) < 1e-12);
  model.close();
});

test("what cannot be is refused in words", async () => {
  const refused = (promise, words) => assert.rejects(promise, (error) => error instanceof OnebitError && words.test(error.message));
  await refused(load("books.onebit"), /not an ArrayBuffer/);
  await refused(load(books.subarray(0, 1000)), /memory/);
  await refused(load(new Uint8Array(0)), /./);
  await refused(load(books, { precision: "int4" }), /"int8" or "float32"/);
  const text = await load(books), image = await load(digits);
  const throws = (body, words) => assert.throws(body, (error) => error instanceof OnebitError && words.test(error.message));
  throws(() => text.run(new Uint8Array(256)), /takes tokens/);
  throws(() => image.encode("a"), /takes arrays/);
  throws(() => image.run(new Uint8Array(100)), /16 x 16 x 1 = 256/);
  throws(() => image.run([1, 2]), /Uint8Array/);
  throws(() => image.classify(new Uint8Array(512)), /give those of one/);
  throws(() => text.decode([4096]), /4096/);
  await refused(written(text, "", { temperature: -1 }), /temperature/);
  await refused(written(text, "", { tokens: 0 }), /tokens=0/);
  await refused(written(text, "", { seed: 0.5 }), /seed=0.5/);
  await refused(written(text, "", { stop: "" }), /stop/);
  await refused(written(image, ""), /takes arrays/);
  text.close();
  text.close();
  throws(() => text.encode("a"), /closed/);
  image.close();
});

test("every cut and every flipped byte of a file's head is refused or runs", async () => {
  for (let at = 0; at < 4000; at += 97) {
    const damaged = new Uint8Array(digits);
    damaged[at] ^= 0x55;
    try {
      const model = await load(damaged);
      model.run(new Uint8Array(256));
      model.close();
    } catch (error) {
      assert.ok(error instanceof OnebitError, `byte ${at}: ${error.stack}`);
    }
  }
});
