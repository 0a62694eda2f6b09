/** Label maps and confidence from coarse logits by bilinear upsampling, as `predict/upsampling.py`; and PNG files of them. */

/** The two points and the fraction between them of each pixel along one axis. */
export function bilinearAxis(points, pixels, { stride, alignCorners }) {
  const axis = { before: new Int32Array(pixels), after: new Int32Array(pixels), fraction: new Float32Array(pixels) };
  for (let pixel = 0; pixel < pixels; pixel++) {
    const [above, below] = alignCorners ? [pixel * (points - 1), Math.max(points * stride - 1, 1)] : [2 * pixel + 1 - stride, 2 * stride];
    const cell = Math.floor(above / below) + 1;
    axis.before[pixel] = Math.max(cell - 1, 0);
    axis.after[pixel] = Math.min(cell, points - 1);
    axis.fraction[pixel] = above / below + 1 - cell;
  }
  return axis;
}

/**
 * Labels and confidence (0-255) of an image from blocks of its coarse logits (see `blendTiles`).
 *
 * Throws a RangeError where logits are not finite.
 */
export async function labelMap(blocks, rows, columns, classes) {
  const [height, width] = [rows.before.length, columns.before.length];
  const [labels, confidence] = [new Uint8Array(height * width), new Uint8Array(height * width)];
  let y = 0;
  for await (const { first, known, finished, last, width: points, logits } of blocks) {
    const line = new Float32Array(points * classes);
    for (; y < height && (last || rows.after[y] < first + finished); y++) {
      for (let k = 0; k < classes; k++) {
        const [above, below] = [rows.before[y], rows.after[y]].map((point) => (k * known + point - first) * points);
        for (let x = 0; x < points; x++) line[x * classes + k] = logits[above + x] + (logits[below + x] - logits[above + x]) * rows.fraction[y];
      }
      labelLine(line, columns, classes, labels.subarray(y * width, (y + 1) * width), confidence.subarray(y * width, (y + 1) * width));
    }
  }
  return { labels, confidence };
}

function labelLine(line, columns, classes, labels, confidence) {
  const values = new Float32Array(classes);
  for (let x = 0; x < labels.length; x++) {
    const [left, right, fraction] = [columns.before[x] * classes, columns.after[x] * classes, columns.fraction[x]];
    let best = 0;
    for (let k = 0; k < classes; k++) {
      values[k] = line[left + k] + (line[right + k] - line[left + k]) * fraction;
      if (values[k] > values[best]) best = k;
    }
    let sum = 0;
    for (let k = 0; k < classes; k++) {
      const below = values[k] - values[best];
      if (below > -20) sum += below ? Math.exp(below) : 1;
      else if (!(below > -Infinity)) throw new RangeError("logits are not finite");
    }
    labels[x] = best;
    confidence[x] = Math.round(255 / sum);
  }
}

const CRC = Int32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** An 8-bit grey PNG file of values (height x width). */
export async function greyPng(values, width, height) {
  const rows = new Uint8Array(height * (width + 1)); // with the filter of each row: 0, none
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
  const header = new Uint8Array(13);
  [width, height].forEach((side, at) => new DataView(header.buffer).setUint32(4 * at, side));
  header[8] = 8;
  const chunk = (name, content) => {
    const bytes = new Uint8Array(12 + content.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, content.length);
    bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
    bytes.set(content, 8);
    let crc = -1;
    for (let at = 4; at < 8 + content.length; at++) crc = CRC[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
    view.setInt32(8 + content.length, ~crc);
    return bytes;
  };
  const parts = [chunk("IHDR", header), chunk("IDAT", new Uint8Array(await packed.arrayBuffer())), chunk("IEND", new Uint8Array())];
  return new Uint8Array(await new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...parts]).arrayBuffer());
}
