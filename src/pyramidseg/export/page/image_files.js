/**
 * Image files to the pixels that the Python side reads: turned as EXIF says, without colour management, alpha dropped
 * without blending, 16 bits kept.
 *
 * PNG is decoded here. Of JPEG and WebP the browser gets only the compressed pixels: without profile, EXIF and alpha
 * there is nothing that browsers treat differently.
 */

import { exifOrientation, inflate, readPng } from "./decoding.js";

/** What is wrong with an image, as a sentence for its user. */
export class Unreadable extends Error {}

const MAX_PIXELS = 250_000_000;

const ascii = (bytes) => new TextDecoder("latin1").decode(bytes);
const starts = (bytes, text) => [...text].every((letter, at) => bytes[at] === letter.charCodeAt(0));

/**
 * Open an image file for a model that takes `channels`, a number or a list of bands counted from 1.
 *
 * Returns {width, height, bits, window, close}: `window(left, top, width, height)` are the pixels of a part of the
 * turned image, (channels, height, width) as Uint8Array or Uint16Array.
 */
export async function openImage(bytes, channels) {
  let source;
  try {
    if (starts(bytes, "\x89PNG")) source = await openPng(bytes);
    else if (starts(bytes, "\xff\xd8\xff")) source = await openJpeg(bytes);
    else if (starts(bytes, "RIFF") && starts(bytes.subarray(8), "WEBP")) source = await openWebp(bytes);
  } catch (error) {
    if (error instanceof Unreadable) throw error;
    throw new Unreadable(`The file is damaged or incomplete: it cannot be decoded (${error.message}).`);
  }
  if (!source) {
    throw new Unreadable(bytes.length ? "This page reads JPEG, PNG and WebP files. Save the image as one of these." : "The file is empty; choose another one.");
  }
  const select = selection(source, channels);
  const { orientation } = source;
  const swapped = orientation >= 5;
  const [width, height] = swapped ? [source.height, source.width] : [source.width, source.height];
  const [down, across] = [[3, 4, 7, 8].includes(orientation), [2, 3, 6, 7].includes(orientation)];
  const window = (left, top, columns, rows) => {
    const [y0, x0] = [down ? height - top - rows : top, across ? width - left - columns : left];
    const stored = swapped ? source.read(y0, x0, rows, columns) : source.read(x0, y0, columns, rows);
    const [rowStep, columnStep] = swapped ? [1, rows] : [columns, 1];
    return select(stored, source.step, rows * columns, (place) => {
      const [y, x] = [Math.floor(place / columns), place % columns];
      return (down ? rows - 1 - y : y) * rowStep + (across ? columns - 1 - x : x) * columnStep;
    }, orientation === 1);
  };
  return { width, height, bits: source.bits, window, close: source.close ?? (() => {}) };
}

/** The function that picks a model's channels from interleaved pixels: as `read_image` in Python. */
function selection({ channels: stored, alpha, color }, wanted) {
  const own = stored - alpha;
  let picked = null;
  if (Array.isArray(wanted)) {
    if (Math.max(...wanted) <= stored) picked = wanted.map((band) => band - 1);
  } else if (wanted === stored) picked = [...Array(stored).keys()];
  else if (own === 1 && [1, 3].includes(wanted)) picked = Array(wanted).fill(0);
  else if (color && wanted === 3) picked = [0, 1, 2];
  const luma = !picked && color && wanted === 1;
  if (!picked && !luma) {
    const bands = Array.isArray(wanted) ? `bands ${wanted.join(", ")}` : `${wanted} channels`;
    throw new Unreadable(`The image has ${stored} channels, and the model takes ${bands}. Choose an image like those of its training.`);
  }
  return (values, step, count, at, plain) => {
    const result = new values.constructor(luma ? count : picked.length * count);
    if (luma) { // ITU-R BT.601 in Pillow's integers
      for (let place = 0; place < count; place++) {
        const from = (plain ? place : at(place)) * step;
        result[place] = Math.floor((19595 * values[from] + 38470 * values[from + 1] + 7471 * values[from + 2] + 0x8000) / 65536);
      }
      return result;
    }
    picked.forEach((channel, number) => {
      for (let place = 0, to = number * count; place < count; place++) result[to++] = values[(plain ? place : at(place)) * step + channel];
    });
    return result;
  };
}

// ---- PNG

async function openPng(bytes) {
  const [width, height] = [16, 20].map((at) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at));
  checkSize(width, height);
  const { bits, colorType, samples, chunks, passes } = await readPng(bytes);
  const chunk = (name) => chunks.find((one) => one.name === name)?.content;
  const frames = chunk("acTL");
  if (frames && new DataView(frames.buffer, frames.byteOffset).getUint32(0) > 1) throw animated();
  if (bits === 16 && colorType === 4) throw new Unreadable("16-bit grey with transparency is not supported. Save the image without it.");
  const pixels = unpacked(passes, { width, height, bits, samples, scaled: colorType === 0 });
  const orientation = await pngOrientation(chunks);
  if (colorType !== 3) return { ...interleaved(pixels, width, samples), width, height, orientation, bits: Math.max(8, bits), channels: samples, alpha: colorType >= 4, color: samples > 2 };
  const [palette, alpha] = [chunk("PLTE"), chunk("tRNS")];
  const channels = alpha ? 4 : 3;
  const colors = new Uint8Array(channels * width * height);
  for (let place = 0, to = 0; place < pixels.length; place++) {
    for (let part = 0; part < 3; part++) colors[to++] = palette[3 * pixels[place] + part] ?? 0;
    if (alpha) colors[to++] = alpha[pixels[place]] ?? 255;
  }
  return { ...interleaved(colors, width, channels), width, height, orientation, bits: 8, channels, alpha: Boolean(alpha), color: true };
}

/** The samples of all passes, interleaved; 16 bits as Uint16Array, less than 8 as bytes, `scaled` to 0-255 if they are grey. */
function unpacked(passes, { width, height, bits, samples, scaled }) {
  if (passes.length === 1 && passes[0].dx === 1 && bits === 8) return passes[0].values;
  const result = new (bits === 16 ? Uint16Array : Uint8Array)(samples * width * height);
  const factor = scaled && bits < 8 ? 255 / (2 ** bits - 1) : 1;
  for (const { x, y, dx, dy, rowBytes, values, ...size } of passes) {
    for (let row = 0; row < size.height; row++) {
      for (let column = 0; column < size.width; column++) {
        const to = ((y + row * dy) * width + x + column * dx) * samples;
        for (let part = 0; part < samples; part++) {
          const bit = (column * samples + part) * bits;
          const at = row * rowBytes + (bit >> 3);
          if (bits === 16) result[to + part] = (values[at] << 8) | values[at + 1];
          else result[to + part] = ((values[at] >> (8 - bits - (bit & 7))) & (2 ** bits - 1)) * factor;
        }
      }
    }
  }
  return result;
}

function interleaved(pixels, stride, step) {
  const read = (left, top, columns, rows) => {
    const part = new pixels.constructor(rows * columns * step);
    for (let row = 0; row < rows; row++) {
      const from = ((top + row) * stride + left) * step;
      part.set(pixels.subarray(from, from + columns * step), row * columns * step);
    }
    return part;
  };
  return { read, step };
}

async function pngOrientation(chunks) {
  let [exif, raw, xmp] = [null, null, ""];
  for (const { name, content } of chunks) {
    if (name === "eXIf") exif = content;
    if (!["tEXt", "zTXt", "iTXt"].includes(name)) continue;
    const end = content.indexOf(0);
    const key = ascii(content.subarray(0, end));
    let rest = content.subarray(end + 1);
    let packed = name === "zTXt";
    if (name === "iTXt") {
      packed = rest[0] === 1;
      rest = rest.subarray(rest.indexOf(0, rest.indexOf(0, 2) + 1) + 1); // after language and translated key
    } else if (packed) rest = rest.subarray(1);
    if (key !== "Raw profile type exif" && key !== "XML:com.adobe.xmp") continue;
    const text = ascii(packed ? await inflate([rest], "deflate") : rest);
    if (key === "XML:com.adobe.xmp") xmp = text;
    else raw = Uint8Array.from(text.split("\n").slice(3).join("").match(/../g) ?? [], (two) => parseInt(two, 16));
  }
  return orientationOf(exif ?? raw, xmp);
}

// ---- JPEG and WebP

async function openJpeg(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kept = [bytes.subarray(0, 2)];
  let [at, exif, xmp, frame] = [2, null, "", null];
  while (view.getUint8(at + 1) !== 0xda) { // start of scan
    const [marker, size] = [view.getUint8(at + 1), view.getUint16(at + 2)];
    if (view.getUint8(at) !== 0xff || size < 2) throw new Error(`no marker at byte ${at}`);
    if (marker === 0xff) {
      at++;
      continue;
    }
    const content = bytes.subarray(at + 4, at + 2 + size);
    if (marker === 0xe1 && starts(content, "Exif\0\0")) exif ??= content;
    else if (marker === 0xe1 && starts(content, "http://ns.adobe.com/xap/1.0/\0")) xmp = ascii(content.subarray(29));
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) frame = content;
    if (marker < 0xe1 || marker > 0xef || marker === 0xee) kept.push(bytes.subarray(at, at + 2 + size)); // APP14 has the colour transform
    at += 2 + size;
  }
  kept.push(bytes.subarray(at));
  let end = bytes.length - 2;
  while (end > at && !(bytes[end] === 0xff && bytes[end + 1] === 0xd9)) end--;
  if (end === at) throw new Error("it ends early");
  const [precision, components] = [frame[0], frame[5]];
  checkSize((frame[3] << 8) | frame[4], (frame[1] << 8) | frame[2]);
  if (precision !== 8 || ![1, 3].includes(components)) {
    throw new Unreadable(`A JPEG of ${components} components with ${precision} bits (CMYK, for instance) is read differently by browsers. Save it as RGB with 8 bits.`);
  }
  const bitmap = await bitmapOf(kept, "image/jpeg");
  return { ...fromBitmap(bitmap), orientation: orientationOf(exif, xmp), channels: components, alpha: false, color: components === 3 };
}

async function openWebp(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [pixels, exif, xmp] = [null, null, ""];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [name, size] = [ascii(bytes.subarray(at, at + 4)), view.getUint32(at + 4, true)];
    const content = bytes.subarray(at + 8, at + 8 + size);
    if (name === "ANIM") throw animated();
    if (name === "VP8 " || name === "VP8L") {
      if (content.length < size) throw new Error("it ends early");
      pixels = bytes.slice(at, at + 8 + size + (size & 1));
      if (name === "VP8L" && pixels[12] & 0x10) throw new Unreadable("Browsers change the colours of lossless WebP files with transparency. Save the image as PNG.");
    }
    if (name === "EXIF") exif = content;
    if (name === "XMP ") xmp = ascii(content);
    at += 8 + size + (size & 1);
  }
  const head = new Uint8Array(12);
  head.set(bytes.subarray(0, 12));
  new DataView(head.buffer).setUint32(4, pixels.length + 4, true);
  const bitmap = await bitmapOf([head, pixels], "image/webp");
  return { ...fromBitmap(bitmap), orientation: orientationOf(exif, xmp), channels: 3, alpha: false, color: true };
}

async function bitmapOf(parts, type) {
  return createImageBitmap(new Blob(parts, { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

function fromBitmap(bitmap) {
  checkSize(bitmap.width, bitmap.height);
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  const read = (left, top, columns, rows) => {
    if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, -left, -top);
    return context.getImageData(0, 0, columns, rows).data;
  };
  return { read, step: 4, width: bitmap.width, height: bitmap.height, bits: 8, close: () => bitmap.close() };
}

// ---- all

function orientationOf(exif, xmp) {
  let found = null;
  try {
    if (exif) found = exifOrientation(exif);
  } catch {
    // damaged EXIF: as without it
  }
  found ??= Number(xmp.match(/tiff:Orientation(?:="|>)([0-9])/)?.[1] ?? 1);
  return found >= 1 && found <= 8 ? found : 1;
}

function checkSize(width, height) {
  if (width * height > MAX_PIXELS) throw new Unreadable(`The image has ${width} × ${height} pixels; at most 250 million are possible. Cut it into parts.`);
}

const animated = () => new Unreadable("The file has several pictures. Save one of them as a file of its own.");
