/** Decoding: grey PNG files to exact values, and photos in the orientation that the server used. */

const PNG = [137, 80, 78, 71, 13, 10, 26, 10];

export const bytesOfBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/**
 * The values of a grey PNG of 8 bits, row by row, with its width and height.
 *
 * Not by a canvas: browsers that resist fingerprinting change the pixels that are read from one.
 */
export async function decodeGreyPng(bytes) {
  if (PNG.some((value, at) => bytes[at] !== value)) throw new Error("the label map is not a PNG file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [bits, colorType, , , interlaced] = bytes.subarray(24, 29);
  if (bits !== 8 || ![0, 3].includes(colorType) || interlaced) {
    throw new Error(`the label map is a PNG of ${bits} bits and colour type ${colorType}; 8-bit grey is needed`);
  }
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at))); // IDAT
  }
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(inflated).arrayBuffer());
  if (rows.length !== height * (width + 1)) throw new Error("the label map is incomplete");
  return { width, height, values: unfilter(rows, width, height) };
}

/** PNG specification, section 9: each row is a filter type and `width` differences to values left and above. */
function unfilter(rows, width, height) {
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
        const left = x ? to[x - 1] : 0;
        if (filter === 1) to[x] = from[x] + left;
        else if (filter === 2) to[x] = from[x] + above[x];
        else if (filter === 3) to[x] = from[x] + ((left + above[x]) >> 1);
        else to[x] = from[x] + paeth(left, above[x], x ? above[x - 1] : 0);
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
    const start = at + 8 + (name(view, at + 8) === 0x45786966 ? 6 : 0); // some writers begin with "Exif\0\0"
    const little = view.getUint16(start) === 0x4949;
    const directory = start + view.getUint32(start + 4, little);
    for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
      const tag = directory + 2 + 12 * entry;
      if (view.getUint16(tag, little) === 0x0112) return view.getUint16(tag + 8, little);
    }
  }
  return 1;
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
