/** The worker of the page: image files to label maps, in ONNX Runtime Web. */

import { bytesOfBase64, decodeGreyPng } from "./decoding.js";
import { Unreadable, openImage } from "./image_files.js";
import { bilinearAxis, greyPng, labelMap } from "./label_maps.js";
import { blendTiles, windowsAlong } from "./tiles.js";

let [ort, session, settings] = [null, null, null];
let queue = Promise.resolve();

onmessage = ({ data }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id: data.id, result: await (data.assets ? start(data) : segment(data)) });
    } catch (error) {
      postMessage({ id: data.id, error: sentence(error), fatal: !(error instanceof Unreadable) });
    }
  });
};

function sentence(error) {
  if (error instanceof Unreadable) return error.message;
  const reason = String(error?.message ?? error);
  if (/memory|alloc|abort|out of bounds/i.test(reason)) return "The browser ran out of memory. Close other tabs and try again, or take a smaller image.";
  return `The computation failed: ${reason.slice(0, 300)}`;
}

/** Load the runtime and the model; the result of the stored sample is part of the answer. */
async function start({ assets, ...others }) {
  settings = others.settings;
  ort = await import(URL.createObjectURL(assets.ort));
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = await assets.wasm.arrayBuffer();
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  const model = new Uint8Array(await assets.model.arrayBuffer());
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], enableMemPattern: false, logSeverityLevel: 3 });
  return { threads: ort.env.wasm.numThreads, ...(await checkSample()) };
}

/**
 * `agreement`: share of the stored sample's pixels that get their label; `difference`: the largest of the values that are
 * read from files with orientation, alpha, profiles and 16 bits, from those of Python.
 */
async function checkSample() {
  const { file, labels } = settings.sample;
  const found = await decodeGreyPng((await segment({ content: bytesOfBase64(file) })).labels);
  const expected = await decodeGreyPng(bytesOfBase64(labels));
  const agreement = expected.values.filter((label, at) => found.values[at] === label).length / expected.values.length;
  let difference = 0;
  for (const sample of settings.pixels) {
    const image = await openImage(bytesOfBase64(sample.file), sample.channels);
    const [values, wanted] = [image.window(0, 0, image.width, image.height), bytesOfBase64(sample.values)];
    const expected = image.bits === 16 ? new Uint16Array(wanted.buffer) : wanted;
    if (String([sample.height, sample.width, sample.bits]) !== String([image.height, image.width, image.bits])) difference = 255;
    expected.forEach((value, at) => (difference = Math.max(difference, Math.abs(value - values[at]))));
    image.close();
  }
  return { agreement, difference };
}

async function segment({ id, content }) {
  const began = performance.now();
  const image = await openImage(content instanceof Blob ? new Uint8Array(await content.arrayBuffer()) : content, settings.channels);
  try {
    if (settings.dtype !== "float32" && settings.dtype !== `uint${image.bits}`) {
      throw new Unreadable(`The image has ${image.bits} bits, and this page was exported for ${settings.dtype}. Export the model with --input float32, which takes all.`);
    }
    const { width, height } = image;
    const [rows, columns] = [height, width].map((length) => windowsAlong(length, { ...settings.tiles, ...settings.geometry }));
    const range = { low: Infinity, high: -Infinity };
    let done = 0;
    const predict = async (...place) => {
      const found = await coarseLogits(image, place, range);
      postMessage({ id, done: ++done, of: rows.length * columns.length });
      await new Promise((next) => setTimeout(next));
      return found;
    };
    const axes = [rows, columns].map((windows, at) => {
      const last = windows.at(-1);
      return bilinearAxis(last.first + last.weights.length, [height, width][at], settings.geometry);
    });
    const maps = await labelMap(blendTiles(predict, rows, columns, settings.classes), ...axes, settings.classes);
    const counts = new Array(settings.classes).fill(0);
    for (const label of maps.labels) counts[label]++;
    return {
      width, height, warning: checkUnits(image.bits, range),
      shares: counts.map((count) => count / maps.labels.length),
      labels: await greyPng(maps.labels, width, height),
      confidence: await greyPng(maps.confidence, width, height),
      seconds: (performance.now() - began) / 1000,
    };
  } catch (error) {
    if (error instanceof RangeError && error.message === "logits are not finite") throw new Unreadable("The model's values for this image are not finite, so it has no labels. Check the image.");
    throw error;
  } finally {
    image.close();
  }
}

async function coarseLogits(image, [left, top, width, height], range) {
  let values = image.window(left, top, width, height);
  for (const value of values) {
    if (value < range.low) range.low = value;
    if (value > range.high) range.high = value;
  }
  if (settings.dtype === "float32") values = Float32Array.from(values, (value) => value / (image.bits === 16 ? 65535 : 255));
  const input = new ort.Tensor(settings.dtype, values, [1, values.length / (width * height), height, width]);
  const { coarse_logits: output } = await session.run({ images: input }, ["coarse_logits"]);
  const [, , rows, columns] = output.dims;
  const logits = Float32Array.from(output.data);
  input.dispose();
  output.dispose();
  return { logits, height: rows, width: columns };
}

/** As `images/value_range.py`: refuses other units than those of the training images; a warning where they are doubtful. */
function checkUnits(bits, { low, high }) {
  const { trained } = settings; // {dtype, low, high}
  if (!trained || (bits === 8 && trained.dtype === "uint8")) return "";
  const units = { uint8: 255, uint16: 65535 };
  const [unit, own] = [units[`uint${bits}`], units[trained.dtype] ?? 1];
  const [least, most] = trained.dtype === "uint8" ? [0, 1] : [trained.low / own, trained.high / own];
  const span = most > least ? most - least : 1;
  const found = `The image has values of ${low} to ${high} in ${bits} bits`;
  const text = `${trained.dtype} from ${trained.low} to ${trained.high}`;
  if (own === 1 && (trained.dtype === "int16" || least < -0.5 || most > 1.5)) throw new Unreadable(`${found}, where this model takes raw values (${text}).`);
  if (trained.dtype !== `uint${bits}` && high / unit > least + span + 3 * span) {
    throw new Unreadable(`${found}, where this model was trained on ${text}. Give the images as they were in training.`);
  }
  return high > low && high / unit < least + span / 16 ? `${found}, far less than in training (${text}): check its units.` : "";
}
