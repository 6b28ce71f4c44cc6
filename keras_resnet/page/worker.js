// Image files -> pixels -> answers of the network. ONNX Runtime's WebAssembly build runs it.
import * as ort from "./runtime/ort.js";
import {answerOf} from "./answers.js";
import {decoded, prepared} from "./pixels.js";

ort.env.wasm.wasmPaths = {wasm: new URL("runtime/ort.wasm", import.meta.url).href};
ort.env.logLevel = "error";

async function read(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} can't be read: status ${response.status}`);
  return response;
}

async function open() {
  const [description, model] = await Promise.all([
    read("description.json").then((response) => response.json()),
    read("model.onnx").then((response) => response.arrayBuffer()),
  ]);
  const session = await ort.InferenceSession.create(new Uint8Array(model), {executionProviders: ["wasm"]});
  return {description, session};
}

const opening = open();
opening.catch(() => {});  // each question that waits for it gets the error

// Pixels 0..255 [N, height, width, 3] of the network's size, as bytes -> type, dimensions and values of each output.
async function run(pixels) {
  const {description, session} = await opening;
  const [height, width, channels] = description.input.size, count = pixels.length / (height * width * channels);
  const image = new ort.Tensor("float32", new Float32Array(pixels), [count, height, width, channels]);
  const found = await session.run({[description.input.name]: image});
  return Object.fromEntries(Object.entries(found).map(([name, {type, dims, data}]) => [name, {type, dims, data}]));
}

const kinds = {
  async open() {
    const {description, session} = await opening;
    return {description, inputs: session.inputMetadata, outputs: session.outputMetadata};
  },

  run,

  async pixels(blob) {
    const {description} = await opening;
    return prepared(await decoded(blob), description.input);
  },

  async answer(blob) {
    const {description} = await opening, start = performance.now();
    const picture = await decoded(blob), pixels = prepared(picture, description.input), between = performance.now();
    const outputs = await run(pixels), end = performance.now();
    const answer = answerOf(outputs, description, picture);
    return {answer, total_ms: performance.now() - start, pixels_ms: between - start, network_ms: end - between};
  },
};

onmessage = async ({data: {number, kind, given}}) => {
  try {
    postMessage({number, result: await kinds[kind](given)});
  } catch (error) {
    postMessage({number, error: error.message});
  }
};
