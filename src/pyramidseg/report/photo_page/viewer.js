/**
 * The viewer: one canvas with a photo, its class or confidence map above it, zoom and pan.
 *
 * A view is the image point at a pane's centre and the screen pixels (CSS) per image pixel. Maps are painted for the
 * visible part and at the screen's resolution only: exact at every zoom, for images of every size.
 */

const LARGEST_SCALE = 64;
const PIXELATED = 3; // device pixels per image pixel from which on the photo is no longer smoothed

/** Opaque RGBA of a colour as one number, in the order of an ImageData's bytes. */
export const packed = ([red, green, blue], alpha = 255) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** From confidence 0 to 1 (matplotlib's magma, reversed): what is doubtful glows. */
const CONFIDENCE_STOPS = [[252, 253, 191], [254, 202, 141], [253, 149, 103], [241, 96, 93], [205, 64, 113], [159, 47, 127], [114, 31, 129], [69, 16, 119], [24, 15, 62], [0, 0, 4]];

const CONFIDENCE_COLORS = Uint32Array.from({ length: 256 }, (_, value) => {
  const place = (value / 255) * (CONFIDENCE_STOPS.length - 1);
  const low = Math.min(Math.floor(place), CONFIDENCE_STOPS.length - 2);
  return packed(CONFIDENCE_STOPS[low].map((part, at) => Math.round(part + (CONFIDENCE_STOPS[low + 1][at] - part) * (place - low))));
});

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Viewer {
  /** `onProbe({x, y} or null)`: the image pixel under the pointer; `onScale(scale)`: after each change of the view. */
  constructor(canvas, { onProbe, onScale }) {
    Object.assign(this, { canvas, onProbe, onScale, context: canvas.getContext("2d") });
    this.layer = document.createElement("canvas");
    this.scene = null; // {image, width, height, labels, confidence}
    this.options = { view: "overlay", opacity: 0.6, divider: 0.5, colors: new Uint32Array(256), peek: false };
    this.view = { x: 0, y: 0, scale: 1 };
    this.fitted = true;
    this.probe = null;
    this.keyboard = false; // the pixel at the centre is probed, not the one under the pointer
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  /** Show a scene, or nothing; the view stays if `keep`. */
  show(scene, { keep = false } = {}) {
    const sameSize = keep && this.scene?.width === scene?.width && this.scene?.height === scene?.height;
    this.scene = scene;
    if (!sameSize) this.fit();
    else this.redraw();
    this.reportProbe();
  }

  set(options) {
    const panes = this.panes().length;
    Object.assign(this.options, options);
    if (this.fitted && ("view" in options || (panes > 1 && "divider" in options))) this.fit();
    else this.redraw();
  }

  /** The parts of the canvas, left to right: their limits, where the view's centre is in them, and what they show. */
  panes() {
    const { view, divider } = this.options;
    const width = this.canvas.clientWidth;
    const split = Math.round(width * divider);
    if (view === "swipe" || view === "side") {
      const centres = view === "swipe" ? [width / 2, width / 2] : [split / 2, (split + width) / 2];
      return [
        { left: 0, right: split, centre: centres[0], shows: "photo" },
        { left: split, right: width, centre: centres[1], shows: "labels" },
      ];
    }
    return [{ left: 0, right: width, centre: width / 2, shows: view === "confidence" ? "confidence" : "labels" }];
  }

  fitScale() {
    const { width, height } = this.scene;
    const panes = this.options.view === "side" ? this.panes() : [{ left: 0, right: this.canvas.clientWidth }];
    const room = Math.max(40, Math.min(...panes.map((pane) => pane.right - pane.left)));
    return Math.min((room - 16) / width, (this.canvas.clientHeight - 16) / height, LARGEST_SCALE);
  }

  fit() {
    if (this.scene) this.view = { x: this.scene.width / 2, y: this.scene.height / 2, scale: this.fitScale() };
    this.fitted = true;
    this.changed();
  }

  actualPixels() {
    this.zoom(1 / devicePixelRatio / this.view.scale);
  }

  /** Zoom by a factor around a point of the canvas in a pane; without one, around the centre. */
  zoom(factor, point = null) {
    if (!this.scene) return;
    const fit = this.fitScale();
    const scale = clamp(this.view.scale * factor, Math.min(fit / 2, 1), Math.max(fit, LARGEST_SCALE));
    const [dx, dy] = point ? [point.x - this.paneAt(point.x).centre, point.y - this.canvas.clientHeight / 2] : [0, 0];
    this.moveBy(dx / this.view.scale - dx / scale, dy / this.view.scale - dy / scale, scale);
  }

  /** Move the view's centre by image pixels; it stays inside the image. */
  moveBy(dx, dy, scale = this.view.scale) {
    if (!this.scene) return;
    const { width, height } = this.scene;
    this.view = { x: clamp(this.view.x + dx, 0, width - 0.01), y: clamp(this.view.y + dy, 0, height - 0.01), scale };
    this.fitted = false;
    this.changed();
  }

  changed() {
    this.redraw();
    this.reportProbe();
    this.canvas.style.touchAction = this.fitted ? "pan-y" : "none"; // one finger scrolls the page until it can move the image
    this.onScale(this.scene ? this.view.scale * devicePixelRatio : null);
  }

  paneAt(x) {
    const panes = this.panes();
    return panes.find((pane) => x < pane.right) ?? panes.at(-1);
  }

  /** The image pixel at a point of the canvas; null outside the image. */
  pixelAt({ x, y }) {
    if (!this.scene) return null;
    const column = Math.floor((x - this.paneAt(x).centre) / this.view.scale + this.view.x);
    const row = Math.floor((y - this.canvas.clientHeight / 2) / this.view.scale + this.view.y);
    const inside = column >= 0 && row >= 0 && column < this.scene.width && row < this.scene.height;
    return inside ? { x: column, y: row } : null;
  }

  reportProbe() {
    if (this.keyboard && this.scene) this.probe = { x: Math.floor(this.view.x), y: Math.floor(this.view.y) };
    else this.probe = this.pointer ? this.pixelAt(this.pointer) : null;
    this.onProbe(this.probe, this.keyboard);
  }

  listen() {
    const { canvas } = this;
    const point = (event) => {
      const { left, top } = canvas.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
      this.zoom(Math.exp(-clamp(pixels, -120, 120) * (event.ctrlKey ? 0.01 : 0.003)), point(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, point(event)));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, point(event));
      this.pointTo(point(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.pointers.has(event.pointerId)) this.dragTo(event.pointerId, point(event));
      this.pointTo(point(event));
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.pointTo(null));
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("keyup", (event) => event.key === " " && this.set({ peek: false }));
    canvas.addEventListener("blur", () => {
      this.set({ peek: false });
      if (this.keyboard) this.pointTo(null);
    });
  }

  pointTo(pointer) {
    this.keyboard = false;
    this.pointer = pointer;
    this.reportProbe();
    this.redraw();
  }

  /** One pointer moves the view; two zoom as well, by the change of their distance. */
  dragTo(id, to) {
    const from = this.pointers.get(id);
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    this.pointers.set(id, to);
    const share = other ? 0.5 : 1;
    this.moveBy((share * (from.x - to.x)) / this.view.scale, (share * (from.y - to.y)) / this.view.scale);
    if (!other) return;
    const distance = (point) => Math.max(10, Math.hypot(point.x - other.x, point.y - other.y));
    this.zoom(distance(to) / distance(from), { x: (to.x + other.x) / 2, y: (to.y + other.y) / 2 });
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 1 : 40 / this.view.scale;
    const actions = {
      ArrowLeft: () => this.moveBy(-step, 0),
      ArrowRight: () => this.moveBy(step, 0),
      ArrowUp: () => this.moveBy(0, -step),
      ArrowDown: () => this.moveBy(0, step),
      "+": () => this.zoom(1.25),
      "=": () => this.zoom(1.25),
      "-": () => this.zoom(0.8),
      0: () => this.fit(),
      1: () => this.actualPixels(),
      " ": () => this.set({ peek: true }),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    this.keyboard = true;
    actions[event.key]();
    this.reportProbe();
  }

  /** Fill the parent element with whole pixels: a fraction would blur all of them. */
  resize() {
    const { canvas } = this;
    const { width, height } = canvas.parentElement.getBoundingClientRect();
    [canvas.style.width, canvas.style.height] = [`${Math.floor(width)}px`, `${Math.floor(height)}px`];
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (this.fitted) this.fit();
    else this.changed();
    this.draw(); // at once: changing the size has emptied the canvas
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.scene || !canvas.width) return;
    context.scale(devicePixelRatio, devicePixelRatio);
    for (const pane of this.panes()) {
      context.save();
      this.drawPane(pane);
      context.restore();
    }
  }

  drawPane(pane) {
    const { context, scene, view } = this;
    const originX = pane.centre - view.x * view.scale;
    const originY = this.canvas.clientHeight / 2 - view.y * view.scale;
    const left = Math.max(pane.left, originX);
    const top = Math.max(0, originY);
    const right = Math.min(pane.right, originX + scene.width * view.scale);
    const bottom = Math.min(this.canvas.clientHeight, originY + scene.height * view.scale);
    if (right <= left || bottom <= top) return;
    const visible = { left, top, right, bottom, originX, originY };
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.clip();
    if (scene.image) this.drawPhoto(visible, pane.shows === "confidence");
    const values = this.options.peek ? null : scene[pane.shows];
    if (values) this.drawMap(visible, values, pane.shows === "confidence" ? CONFIDENCE_COLORS : this.options.colors);
    this.drawMarker(visible);
  }

  /** The photo in the scene's size; grey below a confidence map. */
  drawPhoto({ left, top, right, bottom, originX, originY }, grey) {
    const { context, scene: { image, width, height }, view: { scale } } = this;
    context.imageSmoothingEnabled = scale * devicePixelRatio < PIXELATED;
    context.imageSmoothingQuality = "medium";
    context.drawImage(image, originX, originY, width * scale, height * scale);
    if (!grey) return;
    [context.globalCompositeOperation, context.fillStyle] = ["saturation", "#888"];
    context.fillRect(left, top, right - left, bottom - top);
    context.globalCompositeOperation = "source-over";
  }

  /** The visible part of a map by nearest pixels; with two samples a screen pixel and side where it is scaled down. */
  drawMap({ left, top, right, bottom, originX, originY }, values, colors) {
    const { context, layer, scene: { image, width, height }, view: { scale } } = this;
    const ratio = devicePixelRatio;
    const density = scale * ratio < 2 ? Math.max(2, ratio) : ratio;
    const [x0, y0] = [Math.floor(left * ratio) / ratio, Math.floor(top * ratio) / ratio];
    const [columns, rows] = [Math.ceil((right - x0) * density), Math.ceil((bottom - y0) * density)];
    if (this.pixels?.width !== columns || this.pixels?.height !== rows) {
      this.pixels = new ImageData(columns, rows);
      [layer.width, layer.height] = [columns, rows];
    }
    const sampled = (count, start, origin, size) => Int32Array.from({ length: count }, (_, at) =>
      clamp(Math.floor((start + (at + 0.5) / density - origin) / scale), 0, size - 1));
    const xs = sampled(columns, x0, originX, width);
    const ys = sampled(rows, y0, originY, height);
    const target = new Uint32Array(this.pixels.data.buffer);
    for (let row = 0, at = 0; row < rows; row++) {
      const start = ys[row] * width;
      for (let column = 0; column < columns; column++) target[at++] = colors[values[start + xs[column]]];
    }
    layer.getContext("2d").putImageData(this.pixels, 0, 0);
    context.globalAlpha = image ? this.options.opacity : 1;
    context.imageSmoothingEnabled = density !== ratio;
    context.drawImage(layer, x0, y0, columns / density, rows / density);
    context.globalAlpha = 1;
  }

  /** The probed pixel: its outline where pixels are large, else a square around it where no pointer is. */
  drawMarker({ originX, originY }) {
    const { context, probe, view: { scale } } = this;
    if (!probe || !(scale >= 6 || this.keyboard || this.options.view === "side")) return;
    const side = Math.max(scale, 13);
    const [x, y] = [originX + (probe.x + 0.5) * scale - side / 2, originY + (probe.y + 0.5) * scale - side / 2];
    for (const [style, width] of [["#000", 3.5], ["#fff", 1.5]]) {
      [context.strokeStyle, context.lineWidth] = [style, width];
      context.strokeRect(x, y, side, side);
    }
  }
}
