/** The page: images and their results, and the controls around the viewer. Texts from outside go to textContent only. */

import { decodeGreyPng, decodePhoto } from "./decoding.js";
import { askToken, showCard } from "./dialogs.js";
import { overlayFile, polygonsFile, save } from "./downloads.js";
import { $, element, swatch } from "./elements.js";
import { Legend, percent, summary } from "./legend.js";
import { Refusal, listModels, segment } from "./requests.js";
import { Viewer } from "./viewer.js";

let models = [];
let model = null;
let loading = false; // the models
let items = []; // {file, status: waiting | running | done | failed, result, error, button, url}
let current = null;
let running = null; // {item, controller}
let shown = null; // what the viewer shows: {item, image, width, height, labels, confidence}; the last item's until this one is decoded

const viewer = new Viewer($("canvas"), { onProbe: readOut, onScale: showScale });
const legend = new Legend($("legend"), { onColors: (colors) => viewer.set({ colors }) });

// ---- models

async function loadModels() {
  if (loading) return;
  $("refusal").hidden = loading = true;
  try {
    models = await listModels({ askToken });
  } catch (error) {
    refuse("The models could not be loaded", error, { retry: loadModels });
    $("model").replaceChildren(element("option", { textContent: "None" }));
    say("No model");
    return;
  } finally {
    loading = false;
  }
  $("model").replaceChildren(...models.map(({ name }) => element("option", { value: name, textContent: name })));
  $("model").disabled = models.length < 2;
  $("show-card").disabled = false;
  chooseModel(models[0]);
}

function chooseModel(chosen) {
  model = chosen;
  legend.hidden.clear();
  running?.controller.abort();
  for (const item of items) restart(item);
  say("Ready");
  if (current) show(current);
  else legend.show(model.classes, { counted: false });
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
  const onNote = (text) => say(text || working);
  try {
    if (!item.file.size) throw new Refusal("The file is empty; choose another one.");
    const result = await segment(item.file, { model, signal: controller.signal, onNote, askToken });
    if (!controller.signal.aborted) Object.assign(item, { status: "done", result });
  } catch (error) {
    // Without a token all fail: nobody wants to be asked once per image.
    const failed = error.status === 401 ? items.filter(({ status }) => status !== "done") : [item];
    if (!controller.signal.aborted) for (const one of failed) Object.assign(one, { status: "failed", error });
  }
  running = null;
  if (items.includes(item)) {
    items.forEach(label);
    if (!controller.signal.aborted) say(outcome(item));
    if (current && (current === item || current.error?.status === 401)) show(current);
  }
  processNext();
}

const outcome = ({ file, result }) => (result ? `Segmented in ${result.seconds?.toFixed(2) ?? "–"} s` : `${file.name} was not segmented`);

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
  if (model) legend.show(item?.result?.classes ?? model.classes, { counted: Boolean(item?.result) });
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
  if (!model) loadModels(); // they could not be loaded before
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
    if (w !== width || h !== height) throw new Error(`the label map has ${w} × ${h} pixels instead of ${width} × ${height}`);
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
    notes.push(`The browser shows this image with ${image.width} × ${image.height} pixels, the model gets ${width} × ${height}: it is shown stretched.`);
  }
  if (item.result.warning) notes.push(item.result.warning);
  if (!confidence && viewer.options.view === "confidence") notes.push("There is no confidence for this image.");
  $("note").textContent = notes.join(" ");
  $("note").hidden = !notes.length;
}

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
  const found = legend.classes.find(({ index }) => index === shown.labels[at]);
  $("probe").append(swatch(found?.color), element("b", { textContent: found?.name ?? "no class" }));
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

const stem = () => current.file.name.replace(/\.\w{1,5}$/, "") || "image";

async function saveOverlay() {
  try {
    save(await overlayFile(shown, { colors: legend.colors(), opacity: viewer.options.opacity }), `${stem()}_overlay.png`);
  } catch (error) {
    say(`The overlay was not saved: ${error.message}`);
  }
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
  $("show-card").addEventListener("click", () => showCard(model));
  $("token-cancel").addEventListener("click", () => $("token").close(""));
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => chooseView(radio.value));
  $("opacity").addEventListener("input", () => {
    $("opacity-value").textContent = `${$("opacity").value} %`;
    viewer.set({ opacity: $("opacity").value / 100 });
  });
  $("show-all").addEventListener("click", () => legend.toggleAll(true));
  $("show-none").addEventListener("click", () => legend.toggleAll(false));
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
