/** In place of the server's requests: the model in this page, run by a worker. */

import { $, element } from "./elements.js";

export class Refusal extends Error {}

const { metadata, runtime, ...fixed } = JSON.parse($("settings").textContent);
const about = Object.fromEntries(["model", "classes", "input", "source", "parity", "value_range"].map((key) => [key, JSON.parse(metadata[key])]));
const name = about.source.file.replace(/\.\w+$/, "");
const CLASSES = about.classes.names.map((title, index) => ({ index, name: title, color: about.classes.colors[index] }));

/** What the worker knows. */
const settings = {
  ...fixed,
  classes: CLASSES.length,
  channels: about.model.in_channels,
  dtype: about.input.dtype,
  geometry: { stride: about.model.finest_stride, padding: about.model.coarsest_stride, alignCorners: about.model.align_corners },
  trained: about.value_range,
};

const FILES = { script: "engine.js", ort: "ort.mjs", wasm: "ort.wasm", model: "model.onnx" };
const LEAST_AGREEMENT = 0.999;
const LARGEST_DIFFERENCE = 3; // of 255: decoders of JPEG round differently

$("privacy").textContent = "Images are segmented in this browser and sent nowhere.";
$("files").accept = "image/jpeg,image/png,image/webp";
$("save-polygons").hidden = true;

let files = null; // the promise of the files as Blobs
let engine = null; // the promise of {worker, answers, started}
let last = 0;

/** A file of the export: from the page itself, where it is in it, else from next to it. */
async function load([key, file]) {
  const type = file.endsWith("js") ? "text/javascript" : "application/octet-stream";
  const embedded = $(file);
  let response;
  if (embedded) {
    const packed = await fetch(`data:;base64,${embedded.textContent.trim()}`);
    embedded.remove();
    response = new Response(packed.body.pipeThrough(new DecompressionStream("gzip")));
  } else if (location.protocol === "file:") {
    throw new Refusal("This form of the page needs a web server: run python -m http.server in its folder. The one-file form opens by double click: pyramidseg export MODEL --format web --out NAME.html");
  } else {
    response = await fetch(file).catch(() => null);
    if (!response?.ok) throw new Refusal(`${file} cannot be loaded${response ? ` (status ${response.status})` : ""}: it has to be next to this page.`);
  }
  return [key, new Blob([await response.arrayBuffer()], { type })];
}

async function start() {
  files ??= Promise.all(Object.entries(FILES).map(load)).then(Object.fromEntries);
  const { script, ...assets } = await files.catch((error) => {
    files = null;
    throw error;
  });
  const worker = new Worker(URL.createObjectURL(script));
  const made = { worker, answers: new Map() };
  const fail = (reason) => {
    worker.terminate();
    engine = null;
    for (const { reject } of made.answers.values()) reject(new Refusal(reason));
  };
  worker.onerror = (event) => fail(`The computation failed: ${event.message ?? "the browser ended it"}`);
  worker.onmessage = ({ data: { id, result, error, fatal, done, of } }) => {
    const answer = made.answers.get(id);
    if (done) return void answer?.onProgress?.(done, of);
    if (fatal) return fail(error);
    made.answers.delete(id);
    return error ? answer.reject(new Refusal(error)) : answer.resolve(result);
  };
  made.started = await ask(made, { assets, settings });
  return made;
}

function ask({ worker, answers }, message, onProgress) {
  return new Promise((resolve, reject) => {
    answers.set(++last, { resolve, reject, onProgress });
    worker.postMessage({ ...message, id: last });
  });
}

function engineReady() {
  engine ??= start().catch((error) => {
    engine = null;
    throw error;
  });
  return engine;
}

/** The one model of the page, after the runtime has segmented the stored sample. */
export async function listModels() {
  const { started: { agreement, difference, threads } } = await engineReady();
  const found = `${(100 * agreement).toFixed(2)} % of the pixels of the stored sample get their label`;
  let warning = "";
  if (agreement < LEAST_AGREEMENT) warning = `This browser computes something else than the model: only ${found}. Use another browser.`;
  else if (difference > LARGEST_DIFFERENCE) warning = `This browser changes the values of images (by up to ${difference} in the stored samples): labels can differ. Use another browser, or allow this page to read canvases.`;
  document.querySelector(".warning")?.remove();
  if (warning) document.querySelector("header").append(element("p", { className: "warning", role: "alert", textContent: warning }));
  return [{
    name,
    classes: CLASSES,
    scores: { "pixels with the bundle's label": about.parity?.agreement, "compared on": about.parity?.images },
    input: { channels: settings.channels, type: settings.dtype, "values in training": about.value_range && Object.values(about.value_range).join(", ") },
    runtime: `ONNX Runtime Web ${runtime}, ${metadata.precision}, ${threads} thread${threads > 1 ? "s" : ""}`,
    "in this browser": found,
    "values of image files": difference ? `differ by up to ${difference}` : "as in Python",
    "large images": `tiles of ${settings.tiles.tile} pixels`,
    bundle: about.source,
  }];
}

/** The result of one image file; `onNote(text)` is called with the progress. */
export async function segment(file, { signal, onNote } = {}) {
  const made = await engineReady();
  const result = await new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => {
      made.worker.terminate(); // a tile cannot be interrupted
      engine = null;
      reject(signal.reason);
    });
    ask(made, { content: file }, (done, of) => of > 1 && onNote?.(`${file.name}: part ${done} of ${of}`)).then(resolve, reject);
  });
  const classes = CLASSES.map((one) => ({ ...one, share: result.shares[one.index] }));
  return { ...result, classes, polygons: [], model: name };
}

/** For other scripts: `ready()` is the result of the stored samples, `segment(file)` that of an image. */
globalThis.pyramidseg = { segment, ready: async () => (await engineReady()).started };
