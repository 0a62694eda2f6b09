/** The legend: classes with their shares, by share; its entries switch classes off, and point one out. */

import { element, swatch } from "./elements.js";
import { packed } from "./viewer.js";

export const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

const byShare = (classes) => [...classes].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || a.index - b.index);

/** The five classes with the largest shares, as one line. */
export const summary = (classes) =>
  byShare(classes).filter(({ share }) => share > 0).slice(0, 5).map(({ name, share }) => `${name} ${percent(share)}`).join(", ");

export class Legend {
  /** `onColors(colors)`: the colour of each label, after each change. */
  constructor(list, { onColors }) {
    Object.assign(this, { list, onColors, classes: [], hidden: new Set() });
  }

  /** Show classes, [{index, name, color, share}]; without shares, if they are not counted. */
  show(classes, { counted }) {
    this.classes = classes;
    this.list.replaceChildren(...byShare(classes).map((one) => this.entry(one, counted)));
    this.onColors(this.colors());
  }

  entry({ index, name, color, share }, counted) {
    const box = element("input", { type: "checkbox", checked: !this.hidden.has(index) });
    box.addEventListener("change", () => this.toggle([index], box.checked));
    const amount = element("span", { className: "share", textContent: counted ? percent(share ?? 0) : "–" });
    const bar = element("i");
    bar.style.setProperty("--color", `rgb(${color.join(" ")})`);
    bar.style.setProperty("--share", counted ? share ?? 0 : 0);
    const title = element("span", { className: "name", textContent: name });
    const entry = element("li", {}, element("label", {}, box, swatch(color), title, amount, bar));
    entry.classList.toggle("absent", counted && !share);
    for (const kind of ["pointerenter", "focusin"]) entry.addEventListener(kind, () => this.onColors(this.colors(index)));
    for (const kind of ["pointerleave", "focusout"]) entry.addEventListener(kind, () => this.onColors(this.colors()));
    return entry;
  }

  toggle(indices, on) {
    for (const index of indices) on ? this.hidden.delete(index) : this.hidden.add(index);
    this.onColors(this.colors());
  }

  toggleAll(on) {
    this.toggle(this.classes.map(({ index }) => index), on);
    for (const box of this.list.querySelectorAll("input")) box.checked = on;
  }

  /** RGBA by label, transparent for those without a class; all but one class faint, if that one is pointed out. */
  colors(pointedOut = null) {
    const colors = new Uint32Array(256);
    const faint = pointedOut !== null && !this.hidden.has(pointedOut);
    for (const { index, color } of this.classes) {
      if (!this.hidden.has(index)) colors[index] = packed(color, faint && index !== pointedOut ? 70 : 255);
    }
    return colors;
  }
}
