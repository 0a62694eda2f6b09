/** Requests to the server: its models, and segmentation of one image; waits while it is busy, asks for a token. */

import { bytesOfBase64 } from "./decoding.js";

const TOKEN = "pyramidseg.token";
const PATIENCE = { 429: 20, 503: 3 }; // times that a server which is busy, or cannot serve now, is asked again

/** An answer that is not a result; `message` is the server's sentence. */
export class Refusal extends Error {
  constructor(message, { status = 0, requestId = "" } = {}) {
    super(message);
    this.status = status;
    this.requestId = requestId;
  }
}

let token = sessionStorage.getItem(TOKEN) ?? "";

function keep(value) {
  token = value;
  sessionStorage.setItem(TOKEN, value);
}

/** The models, as `[{name, classes: [{index, name, color}], scores, input, ...}]`. */
export async function listModels({ askToken }) {
  const answer = await request("models", {}, { askToken });
  const models = Array.isArray(answer) ? answer : (answer.models ?? []);
  if (!models.length) throw new Refusal("The server has no model.");
  return models.map((model) => ({ ...model, classes: model.classes.map((one, index) => ({ index, ...one })) }));
}

/** The result of one image file, with its maps as PNG files; `onNote(text)` is called each second while the server is busy. */
export async function segment(file, { model, signal, onNote, askToken }) {
  const query = new URLSearchParams({ model: model.name, format: "json", include: "labels,confidence,polygons" });
  const headers = { "Content-Type": file.type || "application/octet-stream", Accept: "application/json" };
  return adopt(await request(`segment?${query}`, { method: "POST", body: file, headers, signal }, { onNote, askToken }), model);
}

/** What is kept of an answer; the PNG files as bytes. */
function adopt(answer, model) {
  const { width, height, labels_png: labels, confidence_png: confidence } = answer;
  if (!(width > 0 && height > 0 && typeof labels === "string")) throw new Refusal("The server's answer has no label map.");
  const classes = answer.classes?.length ? answer.classes : model.classes;
  return {
    width, height, classes,
    labels: bytesOfBase64(labels),
    confidence: confidence ? bytesOfBase64(confidence) : null,
    polygons: answer.polygons ?? [],
    seconds: answer.seconds,
    model: answer.model ?? model.name,
  };
}

async function request(url, options, { onNote = () => {}, askToken }) {
  for (let tries = 0; ; ) {
    const sent = token;
    const authorization = sent ? { Authorization: `Bearer ${sent}` } : {};
    const response = await reach(url, { ...options, headers: { ...options.headers, ...authorization } });
    if (response.ok) return read(response);
    if (response.status === 401) {
      // Another request may have asked in the meantime.
      if (token === sent) keep(await askToken(sent !== ""));
    } else if (response.headers.has("Retry-After") && tries++ < (PATIENCE[response.status] ?? 0)) {
      const seconds = Number(response.headers.get("Retry-After")); // NaN for a date
      await wait(Math.min(60, Math.max(1, Math.ceil(seconds || 2))), options.signal, onNote);
    } else {
      throw await refusal(response);
    }
  }
}

async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server cannot be reached, or the file cannot be read. Check that pyramidseg serve is running.");
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server's answer is incomplete or not JSON.", { status: response.status });
  }
}

async function refusal(response) {
  const answer = await response.json().catch(() => ({})); // not JSON: a proxy's page, perhaps
  const sentence = answer?.error;
  return new Refusal(typeof sentence === "string" ? sentence : `The server answered with status ${response.status}.`, {
    status: response.status,
    requestId: String(answer?.request_id ?? response.headers.get("X-Request-ID") ?? ""),
  });
}

async function wait(seconds, signal, onNote) {
  for (let left = seconds; left > 0; left--) {
    onNote(`The server is busy: next try in ${left} s`);
    await new Promise((done) => setTimeout(done, 1000));
    signal?.throwIfAborted();
  }
  onNote("");
}
