/** Decoding: grey PNG files to exact values, and photos in the orientation that the server used. */

const PNG = [137, 80, 78, 71, 13, 10, 26, 10];

export const bytesOfBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]; // PNG, section 8

export const inflate = async (parts, format) =>
  new Uint8Array(await new Response(new Blob(parts).stream().pipeThrough(new DecompressionStream(format))).arrayBuffer());

/**
 * A PNG file as stored: `chunks` before the pixels by name, and `passes`: bytes of rows of every dx-th and dy-th pixel.
 *
 * Not by a canvas: browsers that resist fingerprinting change the pixels that are read from one, and a canvas has 8 bits
 * that are multiplied with alpha.
 */
export async function readPng(bytes) {
  if (PNG.some((value, at) => bytes[at] !== value)) throw new Error("is not a PNG file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [bits, colorType, , , interlaced] = bytes.subarray(24, 29);
  const samples = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[colorType];
  const [parts, chunks] = [[], []];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + view.getUint32(at));
    if (name === "IDAT") parts.push(content);
    else if (!parts.length) chunks.push({ name, content });
  }
  const steps = interlaced ? ADAM7 : [[0, 0, 1, 1]];
  const passes = steps.map(([x, y, dx, dy]) => ({ x, y, dx, dy, width: Math.ceil((width - x) / dx), height: Math.ceil((height - y) / dy) }))
    .filter((pass) => pass.width > 0 && pass.height > 0);
  for (const pass of passes) pass.rowBytes = Math.ceil((pass.width * bits * samples) / 8);
  const rows = await inflate(parts, "deflate");
  if (rows.length !== passes.reduce((sum, pass) => sum + pass.height * (pass.rowBytes + 1), 0)) throw new Error("is incomplete");
  let at = 0;
  for (const pass of passes) {
    const end = at + pass.height * (pass.rowBytes + 1);
    pass.values = unfilter(rows.subarray(at, end), pass.rowBytes, pass.height, Math.max(1, (bits * samples) / 8));
    at = end;
  }
  return { width, height, bits, colorType, samples, chunks, passes };
}

/** The values of a grey PNG of 8 bits, row by row, with its width and height. */
export async function decodeGreyPng(bytes) {
  const { width, height, bits, colorType, passes } = await readPng(bytes).catch((error) => {
    throw new Error(`the label map ${error.message}`);
  });
  if (bits !== 8 || ![0, 3].includes(colorType) || passes.length !== 1) {
    throw new Error(`the label map is a PNG of ${bits} bits and colour type ${colorType}; 8-bit grey is needed`);
  }
  return { width, height, values: passes[0].values };
}

/** PNG specification, section 9: each row is a filter type and differences to the bytes of the pixels left and above. */
function unfilter(rows, width, height, step) {
  const values = new Uint8Array(width * height);
  let above = new Uint8Array(width);
  for (let y = 0; y < height; y++) {
    const from = rows.subarray(y * (width + 1) + 1, (y + 1) * (width + 1));
    const to = values.subarray(y * width, (y + 1) * width);
    const filter = rows[y * (width + 1)];
    if (filter === 0) {
      to.set(from);
    } else {
      for (let x = 0; x < width; x++) {
        const left = x < step ? 0 : to[x - step];
        if (filter === 1) to[x] = from[x] + left;
        else if (filter === 2) to[x] = from[x] + above[x];
        else if (filter === 3) to[x] = from[x] + ((left + above[x]) >> 1);
        else to[x] = from[x] + paeth(left, above[x], x < step ? 0 : above[x - step]);
      }
    }
    above = to;
  }
  return values;
}

function paeth(left, above, corner) {
  const [byLeft, byAbove, byCorner] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  if (byLeft <= byAbove && byLeft <= byCorner) return left;
  return byAbove <= byCorner ? above : corner;
}

/** A photo as an ImageBitmap, turned as EXIF says; null if this browser cannot decode the file. */
export async function decodePhoto(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  const orientation = bitmap && (await webpOrientation(file).catch(() => 1)); // damaged EXIF: as without it
  return orientation > 1 && !(await browserTurnsWebp()) ? turned(bitmap, orientation) : bitmap;
}

/** The EXIF orientation of a WebP file, 1 to 8, which some browsers ignore (Chromium 156 does); 1 of other files. */
async function webpOrientation(file) {
  const head = new DataView(await file.slice(0, 30).arrayBuffer());
  const name = (view, at) => (at + 4 <= view.byteLength ? view.getUint32(at) : 0);
  if (name(head, 0) !== 0x52494646 || name(head, 8) !== 0x57454250 || name(head, 12) !== 0x56503858) return 1; // RIFF WEBP VP8X
  if (!(head.getUint8(20) & 8)) return 1; // no EXIF
  const view = new DataView(await file.arrayBuffer());
  for (let at = 12; at + 8 <= view.byteLength; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) & 1)) {
    if (view.getUint32(at) !== 0x45584946) continue; // EXIF
    return exifOrientation(new Uint8Array(view.buffer, at + 8));
  }
  return 1;
}

/** The orientation in EXIF data, which some writers begin with "Exif\0\0"; null if there is none. */
export function exifOrientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = view.getUint32(0) === 0x45786966 ? 6 : 0;
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
    const tag = directory + 2 + 12 * entry;
    if (view.getUint16(tag, little) === 0x0112) return view.getUint16(tag + 8, little);
  }
  return null;
}

/** Whether this browser applies the EXIF orientation of WebP: decodes one of 2 x 1 pixels that is to be turned. */
async function browserTurnsWebp() {
  const probe = await createImageBitmap(new Blob([bytesOfBase64(TURNED_WEBP)], { type: "image/webp" }));
  return probe.height === 2;
}

const TURNED_WEBP = "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=";

/** Image axes by orientation: the matrix of canvas `transform` for an image of w x h. */
const TURNS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

function turned(bitmap, orientation) {
  if (!(orientation in TURNS)) return bitmap;
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = orientation >= 5 ? [height, width] : [width, height];
  const context = canvas.getContext("2d");
  context.transform(...TURNS[orientation](width, height));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return createImageBitmap(canvas);
}
