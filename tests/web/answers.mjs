// Prints what a model answers, as JSON: answers.mjs SITE MODEL TOKENS PROMPT, or answers.mjs SITE MODEL PIXELS-FILE.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [site, file, what, prompt] = process.argv.slice(2);
const { load } = await import(pathToFileURL(`${site}/onebit.js`));
const model = await load(await readFile(file));
if (model.kind === "tokens") {
  const tokens = [];
  let text = "";
  for await (const piece of model.generate(prompt, { tokens: Number(what), temperature: 0 })) {
    if (piece.token >= 0) tokens.push(piece.token);
    text += piece.text;
  }
  console.log(JSON.stringify({ tokens, text, prompt: [...model.encode(prompt)] }));
} else {
  const pixels = new Uint8Array(await readFile(what));
  console.log(JSON.stringify({ logits: [...model.run(pixels)], isa: model.isa }));
}
