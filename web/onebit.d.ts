// Types of onebit.js. docs/web.md has examples.

/** What the engine or the module refuses. */
export class OnebitError extends Error {}

export interface LoadOptions {
  /** "int8": inputs of binary layers quantised to 8 bits (the default). "float32": as training computes, slower. */
  precision?: "int8" | "float32";
  /** Where onebit.wasm is, its bytes, or the compiled module. By default onebit.wasm next to onebit.js. */
  wasm?: string | URL | ArrayBuffer | Uint8Array | WebAssembly.Module;
}

/** Load a packed model: the content of a .onebit file, which is copied. */
export function load(file: ArrayBuffer | Uint8Array, options?: LoadOptions): Promise<Model>;

/** Of one or several images, (count, height, width, channels): 0 to 255, or floats from 0 to 1. */
export type Pixels = Uint8Array | Uint8ClampedArray | Float32Array;

export interface Label {
  label: string;
  /** From 0 to 1. */
  probability: number;
}

export interface GenerateOptions {
  /** The most tokens to write; 200 by default. */
  tokens?: number;
  /** 0 takes the most probable token, higher is more random; 0.8 by default. */
  temperature?: number;
  /** Choose among so many tokens, 0 for all; 40 by default. */
  topK?: number;
  /** The same seed gives the same text; 0 by default. */
  seed?: number;
  /** Texts that end the text and are not part of it. */
  stop?: string | string[];
  /** Ends the text when it is aborted. */
  signal?: AbortSignal;
}

export interface Piece {
  /** The token, or -1 for what was held back at the end. */
  token: number;
  /** Whole characters; "" if the token does not complete one. */
  text: string;
}

export class Model {
  private constructor();
  readonly kind: "arrays" | "tokens";
  /** The file's task. */
  readonly task: Record<string, unknown>;
  /** A classifier's labels; else none. */
  readonly labels: string[];
  /** Without the batch axis: [height, width, channels] of an image. */
  readonly inputShape: number[];
  readonly outputShape: number[];
  /** The most tokens that the model sees; 0 for images. */
  readonly context: number;
  readonly vocabularySize: number;
  readonly precision: "int8" | "float32";
  readonly isa: string;
  readonly memoryBytes: number;

  /** Compute examples: (count, outputs). */
  run(pixels: Pixels): Float32Array;
  /** The labels of one image, the most probable first. */
  classify(pixels: Pixels, options?: { top?: number }): Label[];
  /** The tokens of a text, without the separator that begins every text. */
  encode(text: string): Int32Array;
  decode(tokens: ArrayLike<number>): string;
  /** Continue a text, token by token. */
  generate(prompt?: string, options?: GenerateOptions): AsyncGenerator<Piece, void, undefined>;
  /** Free the model. It cannot be used any more. */
  close(): void;
}

/** e^(x / temperature) over their sum. */
export function softmax(logits: ArrayLike<number>, temperature?: number): number[];
