// Runs packed 1-bit networks (.onebit files) in browsers and in node: the engine's C API as an ES module. docs/web.md has examples.

/** What the engine or this module refuses. Its message says what was seen, what is allowed, and what to do. */
export class OnebitError extends Error {
  constructor(message) {
    super(message);
    this.name = "OnebitError";
  }
}

const OPTIONS_BYTES = 64; // more than onebit_options has; fields that the library does not know must be 0
const PRECISIONS = ["int8", "float32"];
const SEPARATOR = "[SEP]";

let compiled = null;

/** The compiled engine. Compiling happens once; every model has an instance, whose memory goes with it. */
async function engine(wasm) {
  if (wasm === undefined) {
    compiled ??= compile(new URL("onebit.wasm", import.meta.url));
    try {
      return await compiled;
    } catch (error) {
      compiled = null; // so that a later call may succeed
      throw error;
    }
  }
  return compile(wasm);
}

async function compile(wasm) {
  if (wasm instanceof WebAssembly.Module) return wasm;
  if (wasm instanceof ArrayBuffer || ArrayBuffer.isView(wasm)) return WebAssembly.compile(wasm);
  const url = new URL(wasm, import.meta.url);
  if (url.protocol === "file:" && typeof process !== "undefined") {
    const { readFile } = await import("node:fs/promises");
    return WebAssembly.compile(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new OnebitError(`[load] ${url}: the server answers ${response.status}; put onebit.wasm next to onebit.js`);
  // Not compileStreaming: it needs a type that some static servers do not send.
  return WebAssembly.compile(await response.arrayBuffer());
}

/** An instance of the engine, and how its functions take and give memory. */
class Instance {
  constructor(module) {
    const imports = {};
    for (const { module: from, name } of WebAssembly.Module.imports(module)) {
      imports[from] ??= {};
      imports[from][name] = this.#host(name);
    }
    this.exports = new WebAssembly.Instance(module, imports).exports;
    this.exports._initialize?.();
  }

  // What the engine asks of a system: the time, and nothing else. There are no files, and no environment.
  #host(name) {
    const missing = 52; // wasi's ENOSYS
    const counts = (first, second) => {
      const view = this.view();
      view.setUint32(first, 0, true);
      view.setUint32(second, 0, true);
      return 0;
    };
    const functions = {
      clock_time_get: (clock, precision, to) => {
        const milliseconds = clock === 0 ? Date.now() : performance.now();
        this.view().setBigUint64(to, BigInt(Math.round(milliseconds * 1e6)), true);
        return 0;
      },
      environ_sizes_get: counts,
      args_sizes_get: counts,
      environ_get: () => 0,
      args_get: () => 0,
      emscripten_notify_memory_growth: () => {},
      proc_exit: (code) => {
        throw new OnebitError(`[engine] ended with ${code}`);
      },
      abort: () => {
        throw new OnebitError("[engine] aborted");
      },
    };
    return functions[name] ?? (() => missing);
  }

  view() {
    return new DataView(this.exports.memory.buffer);
  }
  bytes(at, size) {
    return new Uint8Array(this.exports.memory.buffer, at, size);
  }
  text(at) {
    const all = new Uint8Array(this.exports.memory.buffer);
    return new TextDecoder().decode(all.subarray(at, all.indexOf(0, at)));
  }

  /** Calls body(address) with memory for `size` bytes, which is freed afterwards. */
  borrow(size, body) {
    const at = this.exports.malloc(Math.max(size, 1));
    if (at === 0) throw new OnebitError("[engine] out of memory: use a smaller model or a shorter text");
    try {
      return body(at);
    } finally {
      this.exports.free(at);
    }
  }
  /** The same with the content of an array. */
  lend(array, body) {
    return this.borrow(array.byteLength, (at) => {
      this.bytes(at, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      return body(at);
    });
  }
  check(status) {
    if (status !== 0) throw new OnebitError(this.text(this.exports.onebit_last_error()));
  }
}

/**
 * Load a packed model.
 * @param {ArrayBuffer | Uint8Array} file the content of a .onebit file; it is copied
 * @param {object} [options] `precision`: "int8" (the default) or "float32"; `wasm`: where onebit.wasm is, its bytes, or
 *   the compiled module; by default onebit.wasm next to this file
 * @returns {Promise<Model>}
 */
export async function load(file, { precision = "int8", wasm } = {}) {
  const bytes = file instanceof ArrayBuffer ? new Uint8Array(file) : file;
  if (!(bytes instanceof Uint8Array)) throw new OnebitError("[load] the file is not an ArrayBuffer or Uint8Array: read the .onebit file into one");
  if (!PRECISIONS.includes(precision)) throw new OnebitError(`[load] precision=${JSON.stringify(precision)}: use "int8" or "float32"`);
  const instance = new Instance(await engine(wasm));
  const { exports } = instance;
  const handle = instance.borrow(4, (handleAt) =>
    instance.lend(bytes, (at) =>
      instance.borrow(OPTIONS_BYTES, (options) => {
        instance.bytes(options, OPTIONS_BYTES).fill(0);
        const view = instance.view();
        view.setUint32(options, OPTIONS_BYTES, true);
        view.setInt32(options + 4, PRECISIONS.indexOf(precision), true);
        view.setInt32(options + 8, 1, true); // one thread
        instance.check(exports.onebit_load_memory(at, bytes.length, options, handleAt));
        return instance.view().getUint32(handleAt, true);
      }),
    ),
  );
  return new Model(instance, handle);
}

/** A loaded model. `load` makes one. */
export class Model {
  #instance;
  #handle;
  #separator;

  constructor(instance, handle) {
    this.#instance = instance;
    this.#handle = handle;
    const about = JSON.parse(instance.text(instance.exports.onebit_describe(handle)));
    /** "arrays" (images) or "tokens" (text). */
    this.kind = about.kind;
    /** The file's task: its kind, labels or vocabulary, and more. */
    this.task = about.task;
    /** A classifier's labels. */
    this.labels = about.task.labels ?? [];
    /** Without the batch axis: [height, width, channels] of an image. */
    this.inputShape = about.input_shape;
    this.outputShape = about.output_shape;
    /** The most tokens that the model sees; 0 for images. */
    this.context = about.context ?? 0;
    this.vocabularySize = about.vocabulary_size ?? 0;
    this.precision = about.precision;
    this.isa = about.isa;
    this.memoryBytes = about.memory_bytes;
  }

  get #open() {
    if (this.#handle === 0) throw new OnebitError("[model] it is closed: load it again");
    return this.#handle;
  }

  #need(kind, what) {
    if (this.kind !== kind) throw new OnebitError(`[${what}] this model takes ${this.kind}: ${what} is for models of ${kind}`);
    return this.#open;
  }

  /**
   * Compute examples.
   * @param {Uint8Array | Uint8ClampedArray | Float32Array} pixels of one or several images, (count, height, width, channels): 0 to 255, or floats
   *   from 0 to 1
   * @returns {Float32Array} (count, outputs)
   */
  run(pixels) {
    const handle = this.#need("arrays", "run");
    const { exports } = this.#instance;
    const size = (shape) => shape.reduce((product, axis) => product * axis, 1);
    const inputs = size(this.inputShape), outputs = size(this.outputShape);
    const floats = pixels instanceof Float32Array;
    if (!floats && !(pixels instanceof Uint8Array) && !(pixels instanceof Uint8ClampedArray)) {
      throw new OnebitError("[run] pixels is not a Uint8Array, Uint8ClampedArray or Float32Array");
    }
    if (pixels.length === 0 || pixels.length % inputs !== 0) {
      throw new OnebitError(`[run] ${pixels.length} numbers: an example has ${this.inputShape.join(" x ")} = ${inputs}`);
    }
    const count = pixels.length / inputs;
    return this.#instance.lend(pixels, (at) =>
      this.#instance.borrow(4 * count * outputs, (to) => {
        const run = floats ? exports.onebit_run_floats : exports.onebit_run_pixels;
        this.#instance.check(run(handle, at, pixels.length, count, to, count * outputs));
        return new Float32Array(exports.memory.buffer, to, count * outputs).slice();
      }),
    );
  }

  /**
   * The labels of one image and their probabilities, the most probable first.
   * @param {Uint8Array | Uint8ClampedArray | Float32Array} pixels as for `run`, of one image
   * @returns {{label: string, probability: number}[]} at most `top`
   */
  classify(pixels, { top = Infinity } = {}) {
    if (this.labels.length === 0) throw new OnebitError("[classify] this model has no labels: use run or generate");
    const logits = this.run(pixels);
    if (logits.length !== this.labels.length) throw new OnebitError("[classify] the pixels are of several images: give those of one");
    return softmax(logits, this.task.temperature ?? 1)
      .map((probability, index) => ({ label: this.labels[index], probability }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, top);
  }

  /** The tokens of a text, without the separator that begins every text. @returns {Int32Array} */
  encode(text) {
    const handle = this.#need("tokens", "encode");
    const bytes = new TextEncoder().encode(text.toWellFormed?.() ?? text), room = bytes.length + 1;
    return this.#instance.lend(bytes, (at) =>
      this.#instance.borrow(4 * room + 4, (to) => {
        this.#instance.check(this.#instance.exports.onebit_encode(handle, at, bytes.length, to + 4, room, to));
        const count = this.#instance.view().getUint32(to, true);
        return new Int32Array(this.#instance.exports.memory.buffer, to + 4, count).slice();
      }),
    );
  }

  /** The text of tokens. */
  decode(tokens) {
    const handle = this.#need("tokens", "decode");
    const ids = Int32Array.from(tokens);
    return this.#instance.lend(ids, (at) =>
      this.#instance.borrow(4, (size) => {
        const decode = (to, room) => this.#instance.check(this.#instance.exports.onebit_decode(handle, at, ids.length, to, room, size));
        decode(0, 0);
        const room = this.#instance.view().getUint32(size, true);
        return this.#instance.borrow(room, (to) => {
          decode(to, room);
          return new TextDecoder().decode(this.#instance.bytes(to, room));
        });
      }),
    );
  }

  // The bytes that a token adds to a text.
  #tokenBytes(token) {
    return this.#instance.borrow(4, (size) => {
      const at = this.#instance.exports.onebit_token_bytes(this.#open, token, size);
      return this.#instance.bytes(at, this.#instance.view().getUint32(size, true)).slice();
    });
  }

  #separatorToken() {
    this.#separator ??= this.#instance.lend(new TextEncoder().encode(`${SEPARATOR}\0`), (at) =>
      this.#instance.exports.onebit_token_id(this.#open, at),
    );
    if (this.#separator < 0) throw new OnebitError(this.#instance.text(this.#instance.exports.onebit_last_error()));
    return this.#separator;
  }

  /**
   * Continue a text, token by token. A full context forgets its older half and goes on. The model may end the text.
   * @param {string} prompt the text to continue; "" for a new text
   * @param {object} [options] `tokens`: the most to write (200); `temperature`: 0 takes the most probable token, higher is more random (0.8);
   *   `topK`: choose among so many, 0 for all (40); `seed`: the same seed gives the same text (0); `stop`: texts that end it and are not part of it;
   *   `signal`: an AbortSignal that ends it
   * @yields {{token: number, text: string}} text: whole characters, and "" if a token does not complete one
   */
  async *generate(prompt = "", options = {}) {
    const { tokens = 200, temperature = 0.8, topK = 40, seed = 0, stop = [], signal } = options;
    const whole = (name, value, least) => {
      if (!Number.isInteger(value) || value < least) throw new OnebitError(`[generate] ${name}=${value}: use an integer from ${least} on`);
    };
    whole("tokens", tokens, 1);
    whole("topK", topK, 0);
    whole("seed", seed, 0);
    const text = new Writing([].concat(stop));
    const sequence = this.#sequence();
    try {
      const read = [this.#separatorToken(), ...this.encode(prompt)];
      sequence.feed(read.slice(-this.context));
      for (let made = 0; made < tokens && !signal?.aborted; ++made) {
        if (sequence.full()) {
          // Positions are absolute, so the newer half is read again from position 0.
          sequence.cut(0);
          sequence.feed(read.slice(-Math.max(1, this.context >> 1)));
        }
        const token = sequence.next(temperature, topK, BigInt(seed));
        if (token === this.#separator) break;
        read.push(token);
        const piece = text.add(this.#tokenBytes(token));
        yield { token, text: piece };
        if (text.ended) return;
      }
      const rest = text.rest();
      if (rest !== "") yield { token: -1, text: rest };
    } finally {
      sequence.close();
    }
  }

  // A text's tokens in the engine.
  #sequence() {
    const instance = this.#instance, { exports } = instance;
    const handle = this.#need("tokens", "generate");
    const number = instance.borrow(4, (at) => {
      instance.check(exports.onebit_sequence_open(handle, at));
      return instance.view().getUint32(at, true);
    });
    return {
      feed: (ids) =>
        instance.lend(Int32Array.from(ids), (at) => instance.check(exports.onebit_sequence_feed(number, at, ids.length, 0, 0))),
      next: (temperature, topK, seed) =>
        instance.borrow(4, (at) => {
          instance.check(exports.onebit_generate_next(number, temperature, topK, seed, at));
          return instance.view().getInt32(at, true);
        }),
      // All tokens but the one that is not fed yet fill the context.
      full: () => exports.onebit_sequence_length(number) > this.context,
      cut: (length) => instance.check(exports.onebit_sequence_cut(number, length)),
      close: () => exports.onebit_sequence_close(number),
    };
  }

  /** Free the model. It cannot be used any more. */
  close() {
    if (this.#handle !== 0) this.#instance.exports.onebit_free(this.#handle);
    this.#handle = 0;
  }
}

/** e^(x / temperature) over their sum. @returns {number[]} */
export function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp((x - most) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// Bytes to text: whole characters only, and nothing of what may be the beginning of a stop text.
class Writing {
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #held = "";
  #stops;
  ended = false;

  constructor(stops) {
    for (const stop of stops) {
      if (typeof stop !== "string" || stop === "") throw new OnebitError("[generate] stop holds something else than texts: use one text or several");
    }
    this.#stops = stops;
  }

  add(bytes) {
    return this.#give(this.#decoder.decode(bytes, { stream: true }), false);
  }
  rest() {
    return this.#give(this.#decoder.decode(), true);
  }

  #give(text, last) {
    this.#held += text;
    const found = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.ended = true;
      return this.#held.slice(0, Math.min(...found));
    }
    let keep = 0;
    for (const stop of last ? [] : this.#stops) {
      for (let size = Math.min(stop.length - 1, this.#held.length); size > keep; --size) {
        if (this.#held.endsWith(stop.slice(0, size))) keep = size;
      }
    }
    const given = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(given.length);
    return given;
  }
}
