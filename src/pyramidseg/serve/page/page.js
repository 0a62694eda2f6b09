/** The page: images and their results, and the controls around the viewer. Texts from outside go to textContent only. */

import { bytesOfBase64, decodeGreyPng, decodePhoto } from "./decoding.js";
import { Refusal, listModels, segment } from "./requests.js";
import { Viewer, overlayFile, packed } from "./viewer.js";

const $ = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

let models = [];
let model = null;
let items = []; // {file, status: waiting | running | done | failed, result, error, button, url}
let current = null;
let running = null; // {item, controller}
let shown = null; // what the viewer shows: {item, image, width, height, labels, confidence}; the last item's until this one is decoded
let hidden = new Set(); // indices of the classes that are switched off
let highlighted = null;

const viewer = new Viewer($("canvas"), { onProbe: readOut, onScale: showScale });

// ---- models

async function loadModels() {
  $("refusal").hidden = true;
  try {
    models = await listModels({ askToken });
    if (!models.length) throw new Refusal("The server has no model.");
  } catch (error) {
    refuse("The models could not be loaded", error, { retry: loadModels });
    $("model").replaceChildren(element("option", { textContent: "None" }));
    say("No model");
    return;
  }
  $("model").replaceChildren(...models.map(({ name }) => element("option", { value: name, textContent: name })));
  $("model").disabled = models.length < 2;
  $("show-card").disabled = false;
  chooseModel(models[0]);
}

function chooseModel(chosen) {
  model = chosen;
  hidden = new Set();
  running?.controller.abort();
  for (const item of items) restart(item);
  say("Ready");
  if (current) show(current);
  else showLegend();
  processNext();
}

// ---- images and their queue

function addFiles(files) {
  const added = [...files].map((file) => ({ file, status: "waiting" }));
  for (const item of added) {
    item.url = URL.createObjectURL(item.file);
    item.button = element("button", { type: "button", className: "thumbnail", title: item.file.name });
    const picture = element("img", { alt: "", src: item.url, decoding: "async" });
    picture.addEventListener("error", () => picture.replaceWith(element("span", { className: "kind", textContent: kind(item.file) })));
    item.label = element("span", { className: "unseen" });
    item.button.append(picture, element("i", { ariaHidden: "true" }), item.label);
    item.button.addEventListener("click", () => show(item));
    item.button.addEventListener("keydown", (event) => event.key === "Delete" && remove(item));
    $("thumbnails").append(element("li", {}, item.button));
    items.push(item);
    label(item);
  }
  $("clear").hidden = !items.length;
  if (added.length && (!current || current.status !== "running")) show(added[0]);
  processNext();
}

const kind = (file) => file.name.match(/\.(\w{1,5})$/)?.[1].toUpperCase() ?? "file";

function label(item) {
  item.button.dataset.status = item.status;
  item.label.textContent = `${item.file.name}, ${item.status}`;
}

function restart(item) {
  Object.assign(item, { status: "waiting", result: null, error: null });
  label(item);
}

function remove(item) {
  const at = items.indexOf(item);
  items = items.filter((other) => other !== item);
  if (running?.item === item) running.controller.abort();
  URL.revokeObjectURL(item.url);
  item.button.closest("li").remove();
  $("clear").hidden = !items.length;
  if (current === item) show(items[at] ?? items.at(-1) ?? null);
  (current?.button ?? $("choose")).focus();
}

/** Segment the first image that waits, one at a time. */
async function processNext() {
  const item = items.find(({ status }) => status === "waiting");
  if (running || !item || !model) return;
  const controller = new AbortController();
  running = { item, controller };
  item.status = "running";
  label(item);
  const place = items.length > 1 ? ` (${items.indexOf(item) + 1} of ${items.length})` : "";
  const working = `Segmenting ${item.file.name}${place}…`;
  say(working);
  const onWait = (seconds) => say(seconds ? `The server is busy: next try in ${seconds} s` : working);
  try {
    if (!item.file.size) throw new Refusal("The file is empty; choose another one.");
    const answer = await segment(item.file, { model: model.name, signal: controller.signal, onWait, askToken });
    if (!controller.signal.aborted) Object.assign(item, { status: "done", result: adopt(answer) });
  } catch (error) {
    if (!controller.signal.aborted) Object.assign(item, { status: "failed", error });
  }
  running = null;
  if (items.includes(item)) {
    label(item);
    if (!controller.signal.aborted) say(outcome(item));
    if (current === item) show(item);
  }
  processNext();
}

const outcome = ({ file, result }) => (result ? `Segmented in ${result.seconds?.toFixed(2) ?? "–"} s` : `${file.name} was not segmented`);

/** What is kept of an answer; the PNG files as bytes. */
function adopt(answer) {
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

// ---- showing one image

let turn = 0;

async function show(item) {
  const mine = ++turn;
  current = item;
  for (const { button } of items) button.removeAttribute("aria-current");
  $("refusal").hidden = $("note").hidden = true;
  $("empty").hidden = Boolean(item);
  $("busy").hidden = !item;
  for (const id of ["save-mask", "save-overlay", "save-polygons"]) $(id).disabled = true;
  showLegend();
  if (!item) return replaceScene(null);
  item.button.setAttribute("aria-current", "true");
  item.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  let scene;
  try {
    scene = await decode(item);
  } catch (error) {
    Object.assign(item, { status: "failed", error, result: null });
    label(item);
    scene = { item };
  }
  if (mine !== turn) {
    if (scene.image !== shown?.image) scene.image?.close();
    return;
  }
  $("busy").hidden = !["waiting", "running"].includes(item.status);
  replaceScene(scene);
  if (item.status === "failed") {
    const theirs = item.error.status >= 400 && item.error.status < 500 && item.error.status !== 401;
    refuse(theirs ? "This image was refused" : "This image could not be segmented", item.error, { item });
  }
  if (scene.labels) showResult(scene);
  if (!running && item.status !== "waiting") say(outcome(item));
}

/** Show another scene, {item, image, width, height, labels, confidence}; it was decoded, the last one is forgotten. */
function replaceScene(scene) {
  const last = shown;
  shown = scene;
  viewer.show(scene?.width ? scene : null, { keep: last?.item === scene?.item });
  $("zoom").hidden = !scene?.width;
  if (last?.image !== scene?.image) last?.image?.close();
}

/** Photo and maps of an item; the photo is not decoded again. */
async function decode(item) {
  const image = shown?.item === item ? shown.image : await decodePhoto(item.file);
  const scene = { item, image, width: image?.width, height: image?.height, labels: null, confidence: null };
  if (!item.result) return scene;
  const { width, height, labels, confidence } = item.result;
  const [map, certainty] = await Promise.all([labels, confidence].map((bytes) => bytes && decodeGreyPng(bytes)));
  for (const { width: w, height: h } of [map, certainty ?? map]) {
    if (w !== width || h !== height) throw new Error(`the server's map has ${w} × ${h} pixels instead of ${width} × ${height}`);
  }
  return { ...scene, width, height, labels: map.values, confidence: certainty?.values ?? null };
}

function showResult({ item, image, width, height, confidence }) {
  for (const id of ["save-mask", "save-overlay"]) $(id).disabled = false;
  $("save-polygons").disabled = !item.result.polygons.length;
  $("canvas").ariaLabel = `${item.file.name}, ${width} by ${height} pixels: ${summary(item.result.classes)}`;
  const mean = confidence && confidence.reduce((sum, value) => sum + value, 0) / confidence.length / 255;
  $("mean-confidence").textContent = confidence ? `mean ${percent(mean)}` : "";
  const notes = [];
  if (!image) notes.push(`This browser cannot show ${kind(item.file)} files: the segmentation is shown without the image.`);
  else if (image.width !== width || image.height !== height) {
    notes.push(`The browser shows this image with ${image.width} × ${image.height} pixels, the server reads ${width} × ${height}: it is shown stretched.`);
  }
  if (!confidence && viewer.options.view === "confidence") notes.push("The server gave no confidence.");
  $("note").textContent = notes.join(" ");
  $("note").hidden = !notes.length;
}

const byShare = (classes) => [...classes].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || a.index - b.index);

const summary = (classes) =>
  byShare(classes).filter(({ share }) => share > 0).slice(0, 5).map(({ name, share }) => `${name} ${percent(share)}`).join(", ");

function refuse(title, error, { item = null, retry = null }) {
  $("refusal-title").textContent = title;
  $("refusal-text").textContent = error.message;
  const details = [item?.file.name, error.status && `status ${error.status}`, error.requestId && `request ${error.requestId}`];
  $("refusal-detail").textContent = details.filter(Boolean).join(" · ");
  $("remove").hidden = !item;
  $("remove").onclick = () => remove(item);
  $("retry").onclick = retry ?? (() => {
    restart(item);
    show(item);
    processNext();
  });
  $("empty").hidden = true;
  $("refusal").hidden = false;
}

// ---- legend

function classes() {
  return current?.result?.classes ?? model?.classes ?? [];
}

function showLegend() {
  const counted = Boolean(current?.result);
  const entries = byShare(classes()).map(({ index, name, color, share }) => {
    const box = element("input", { type: "checkbox", checked: !hidden.has(index) });
    box.addEventListener("change", () => toggle([index], box.checked));
    const swatch = element("span", { className: "swatch" });
    const bar = element("i");
    swatch.style.setProperty("--color", `rgb(${color.join(" ")})`);
    bar.style.setProperty("--color", `rgb(${color.join(" ")})`);
    bar.style.setProperty("--share", counted ? share ?? 0 : 0);
    const amount = element("span", { className: "share", textContent: counted && share !== undefined ? percent(share) : "–" });
    const entry = element("li", {}, element("label", {}, box, swatch, element("span", { className: "name", textContent: name }), amount, bar));
    entry.classList.toggle("absent", counted && !share);
    for (const kind of ["pointerenter", "focusin"]) entry.addEventListener(kind, () => highlight(index));
    for (const kind of ["pointerleave", "focusout"]) entry.addEventListener(kind, () => highlight(null));
    return entry;
  });
  $("legend").replaceChildren(...entries);
  highlight(null);
}

function toggle(indices, on) {
  for (const index of indices) on ? hidden.delete(index) : hidden.add(index);
  paint();
}

function toggleAll(on) {
  toggle(classes().map(({ index }) => index), on);
  for (const box of $("legend").querySelectorAll("input")) box.checked = on;
}

function highlight(index) {
  highlighted = hidden.has(index) ? null : index;
  paint();
}

function palette({ faint = null } = {}) {
  const colors = new Uint32Array(256); // without a class: transparent
  for (const { index, color } of classes()) {
    if (!hidden.has(index)) colors[index] = packed(color, faint !== null && index !== faint ? 70 : 255);
  }
  return colors;
}

function paint() {
  viewer.set({ colors: palette({ faint: highlighted }) });
}

// ---- read-outs

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text; // each change is read out
}

function readOut(pixel, byKeyboard) {
  $("probe").replaceChildren();
  $("probe").ariaLive = byKeyboard ? "polite" : "off";
  if (!pixel) return;
  $("probe").append(element("span", { className: "place", textContent: `${pixel.x}, ${pixel.y}` }));
  if (!shown?.labels || shown.item !== current) return;
  const at = pixel.y * shown.width + pixel.x;
  const found = classes().find(({ index }) => index === shown.labels[at]);
  const swatch = element("span", { className: "swatch" });
  if (found) swatch.style.setProperty("--color", `rgb(${found.color.join(" ")})`);
  $("probe").append(swatch, element("b", { textContent: found?.name ?? "no class" }));
  if (shown.confidence) $("probe").append(element("span", { textContent: `confidence ${((100 * shown.confidence[at]) / 255).toFixed(0)} %` }));
}

function showScale(scale) {
  $("zoom-value").textContent = scale ? `${(100 * scale).toFixed(scale < 0.1 ? 1 : 0)} %` : "–";
}

function showDivider(share) {
  const { view } = viewer.options;
  $("divider").style.left = `${100 * share}%`;
  $("divider").ariaValueNow = String(Math.round(100 * share));
  $("divider").hidden = $("name-first").hidden = $("name-second").hidden = !["swipe", "side"].includes(view);
  viewer.set({ divider: share });
}

function chooseView(view) {
  viewer.set({ view });
  showDivider(viewer.options.divider);
  $("scale").hidden = view !== "confidence";
  $("legend").hidden = $("class-buttons").hidden = view === "confidence";
  $("classes-title").textContent = view === "confidence" ? "Confidence" : "Classes";
  if (shown?.labels && shown.item === current) showResult(shown);
}

// ---- downloads

function save(content, name) {
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const stem = () => current.file.name.replace(/\.\w{1,5}$/, "") || "image";

async function saveOverlay() {
  try {
    save(await overlayFile(shown, { colors: palette(), opacity: viewer.options.opacity }), `${stem()}_overlay.png`);
  } catch (error) {
    say(`The overlay was not saved: ${error.message}`);
  }
}

/** A GeoJSON feature collection whose coordinates are pixels: x to the right, y down, from the image's top left corner. */
function polygonsFile({ file, result }) {
  const closed = (ring) => (String(ring[0]) === String(ring.at(-1)) ? ring : [...ring, ring[0]]);
  const features = result.polygons.map((polygon) => {
    const { index, name, color } = result.classes.find((one) => one.index === polygon.class || one.name === polygon.class) ?? {};
    const geometry = { type: "Polygon", coordinates: polygon.rings.map(closed) };
    return { type: "Feature", properties: { class: index ?? polygon.class, name, color }, geometry };
  });
  const image = { file: file.name, width: result.width, height: result.height, coordinates: "pixels from the top left corner" };
  return new Blob([JSON.stringify({ type: "FeatureCollection", image, model: result.model, features })], { type: "application/json" });
}

// ---- dialogs

let asked = null; // the promise of a token while the dialog is open

/** Ask for the token; rejected if the dialog is cancelled. */
function askToken(wasWrong) {
  asked ??= new Promise((resolve, reject) => {
    const dialog = $("token");
    if (wasWrong) $("token-text").textContent = "The server did not accept this token. Check it and try again.";
    $("token-value").value = dialog.returnValue = "";
    dialog.onclose = () => {
      asked = null;
      const value = $("token-value").value.trim();
      if (dialog.returnValue === "continue" && value) resolve(value);
      else reject(new Refusal("The server needs a token, and none was given.", { status: 401 }));
    };
    dialog.showModal();
  });
  return asked;
}

function showCard() {
  const { name, classes: shownAbove, scores, input, ...others } = model;
  $("card-title").textContent = name;
  const chips = shownAbove.map(({ name, color }) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.setProperty("--color", `rgb(${color.join(" ")})`);
    return element("li", {}, swatch, name);
  });
  const part = (title, ...content) => [element("h3", { textContent: title }), ...content];
  $("card-content").replaceChildren(
    ...part("Scores", facts(scores, "No scores are stored with this model.")),
    ...part("Input", facts(input, "Not described.")),
    ...part(`Classes (${chips.length})`, element("ul", { className: "chips" }, ...chips)),
    ...part("Model", facts(others, "Not described.")),
  );
  $("card").showModal();
}

const isObject = (value) => value !== null && typeof value === "object";
const words = (key) => key.replaceAll("_", " ");

/** Names and values of an object of whatever depth; a list of objects is a table. */
function facts(value, otherwise) {
  if (typeof value === "string" && value) return element("p", { textContent: value });
  if (Array.isArray(value)) return table(value);
  const rows = Object.entries(value ?? {}).map(([key, entry]) => {
    const nested = Array.isArray(entry) ? entry.some(isObject) : isObject(entry);
    const content = element("dd", {}, nested ? facts(entry, "–") : plain(entry));
    return element("div", { className: nested ? "nested" : "" }, element("dt", { textContent: words(key) }), content);
  });
  return rows.length ? element("dl", { className: "facts" }, ...rows) : element("p", { textContent: otherwise });
}

function table(objects) {
  const keys = Object.keys(objects[0] ?? {}).filter((key) => key !== "id");
  const row = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, { textContent: text })));
  const body = objects.map((one) => row("td", keys.map((key) => plain(one?.[key] ?? null))));
  return element("div", { className: "wide" }, element("table", {}, row("th", keys.map(words)), ...body));
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (typeof value === "number") return value >= 0.001 && value < 100 ? value.toFixed(3) : value.toPrecision(3);
  return value === null ? "–" : isObject(value) ? JSON.stringify(value) : String(value);
}

// ---- wiring

function listen() {
  for (const id of ["choose", "choose-first"]) $(id).addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    addFiles($("files").files);
    $("files").value = "";
  });
  $("clear").addEventListener("click", () => [...items].forEach(remove));
  $("model").addEventListener("change", () => chooseModel(models[$("model").selectedIndex]));
  $("show-card").addEventListener("click", showCard);
  $("token-cancel").addEventListener("click", () => $("token").close(""));
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => chooseView(radio.value));
  $("opacity").addEventListener("input", () => {
    $("opacity-value").textContent = `${$("opacity").value} %`;
    viewer.set({ opacity: $("opacity").value / 100 });
  });
  $("show-all").addEventListener("click", () => toggleAll(true));
  $("show-none").addEventListener("click", () => toggleAll(false));
  $("zoom-in").addEventListener("click", () => viewer.zoom(1.5));
  $("zoom-out").addEventListener("click", () => viewer.zoom(1 / 1.5));
  $("zoom-fit").addEventListener("click", () => viewer.fit());
  $("zoom-pixels").addEventListener("click", () => viewer.actualPixels());
  $("save-mask").addEventListener("click", () => save(new Blob([current.result.labels], { type: "image/png" }), `${stem()}_mask.png`));
  $("save-overlay").addEventListener("click", saveOverlay);
  $("save-polygons").addEventListener("click", () => save(polygonsFile(current), `${stem()}_polygons.json`));
  $("canvas").addEventListener("keydown", (event) => {
    const step = { PageUp: -1, PageDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = items[items.indexOf(current) + step];
    if (next) show(next);
  });
  listenToDivider();
  listenToDrops();
}

function listenToDivider() {
  const divider = $("divider");
  const move = (share) => showDivider(Math.min(0.95, Math.max(0.05, share)));
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    const { left, width } = $("stage").getBoundingClientRect();
    if (divider.hasPointerCapture(event.pointerId)) move((event.clientX - left) / width);
  });
  divider.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: viewer.options.divider - 0.02, ArrowRight: viewer.options.divider + 0.02, Home: 0.05, End: 0.95 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  });
}

function listenToDrops() {
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    dragging(event.dataTransfer.types.includes("Files"));
  });
  addEventListener("dragleave", (event) => !event.relatedTarget && dragging(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(false);
    const folder = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).find((entry) => entry?.isDirectory);
    if (folder) say(`${folder.name} is a folder: choose the images in it`);
    else addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) event.preventDefault();
    addFiles(event.clipboardData.files);
  });
}

listen();
loadModels();
