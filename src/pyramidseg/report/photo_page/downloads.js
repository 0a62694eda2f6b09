/** Files to keep: the overlay as a picture, polygons as JSON. */

import { element } from "./elements.js";

export function save(content, name) {
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A GeoJSON feature collection whose coordinates are pixels: x to the right, y down, from the image's top left corner. */
export function polygonsFile({ file, result }) {
  const closed = (ring) => (String(ring[0]) === String(ring.at(-1)) ? ring : [...ring, ring[0]]);
  const features = result.polygons.map((polygon) => {
    const { index, name, color } = result.classes.find((one) => one.index === polygon.class || one.name === polygon.class) ?? {};
    const geometry = { type: "Polygon", coordinates: polygon.rings.map(closed) };
    return { type: "Feature", properties: { class: index ?? polygon.class, name, color }, geometry };
  });
  const image = { file: file.name, width: result.width, height: result.height, coordinates: "pixels from the top left corner" };
  return new Blob([JSON.stringify({ type: "FeatureCollection", image, model: result.model, features })], { type: "application/json" });
}

/** The photo with its class map above it, one pixel per image pixel, as a PNG file. */
export async function overlayFile({ image, width, height, labels }, { colors, opacity }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  if (image) context.drawImage(image, 0, 0, width, height);
  context.globalAlpha = image ? opacity : 1;
  const pixels = new ImageData(width, height);
  const target = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < target.length; at++) target[at] = colors[labels[at]];
  context.drawImage(await createImageBitmap(pixels), 0, 0);
  const file = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (!file) throw new Error(`this browser cannot write an overlay of ${width} × ${height} pixels`);
  return file;
}
