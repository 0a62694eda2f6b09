/**
 * Windows of large images, blended as `predict/tiling.py` does it: the same places, margins and weights.
 *
 * Legend: K classes, w points of a row of the coarse logits.
 */

const GRID_PX = 32;
const roundUp = (number, multiple) => Math.ceil(number / multiple) * multiple;

/** The windows along one axis: {start, end} in pixels, {first, offset, weights} in points. */
export function windowsAlong(length, { tile, overlap, margin, stride, padding }) {
  const padded = roundUp(length, padding);
  const last = Math.max(0, roundUp(length - tile, GRID_PX));
  const begins = [];
  for (let start = 0; start < last; start += tile - overlap) begins.push(start);
  begins.push(last);
  const total = new Float64Array(padded / stride);
  const ramps = begins.map((start) => {
    const ramp = windowWeights(Math.min(tile, padded - start) / stride, overlap / stride, Math.ceil(margin / stride), start > 0, start < last);
    ramp.forEach((weight, at) => (total[start / stride + at] += weight));
    return ramp;
  });
  return begins.map((start, number) => {
    const weights = ramps[number].map((weight, at) => weight / total[start / stride + at]);
    const offset = weights.findIndex((weight) => weight > 0);
    const end = weights.findLastIndex((weight) => weight > 0) + 1;
    return { start, end: Math.min(start + tile, length), first: start / stride + offset, offset, weights: weights.slice(offset, end) };
  });
}

function windowWeights(points, overlap, margin, before, after) {
  const ramp = (at) => Math.min(1, Math.max(0, (at + 0.5 - margin) / Math.max(overlap - 2 * margin, 0.5)));
  return Float64Array.from({ length: points }, (_, at) => Math.min(before ? ramp(at) : 1, after ? ramp(points - 1 - at) : 1));
}

/**
 * The coarse logits of an image in blocks of finished rows, {first, rows, width, logits: (K, rows, width)}; each block
 * starts with the last row of the one before.
 *
 * `predict(left, top, width, height)`: {logits: (K, h, w), height: h, width: w} of a window of the image.
 */
export async function* blendTiles(predict, rows, columns, classes) {
  const end = (window) => window.first + window.weights.length;
  const [height, width] = [end(rows.at(-1)), end(columns.at(-1))];
  let [first, carried] = [0, null];
  for (const [number, row] of rows.entries()) {
    const known = end(row) - first;
    const sums = new Float32Array(classes * known * width);
    carried?.forEach((line, k) => sums.set(line, k * known * width));
    for (const column of columns) {
      const found = await predict(column.start, row.start, column.end - column.start, row.end - row.start);
      for (let k = 0; k < classes; k++) {
        row.weights.forEach((down, y) => {
          const from = (k * found.height + row.offset + y) * found.width + column.offset;
          const to = (k * known + row.first - first + y) * width + column.first;
          for (let x = 0; x < column.weights.length; x++) sums[to + x] += found.logits[from + x] * down * column.weights[x];
        });
      }
    }
    const finished = number + 1 < rows.length ? rows[number + 1].first : height;
    yield { first, known, finished: finished - first, last: finished === height, width, logits: sums };
    const kept = finished - 1 - first;
    carried = Array.from({ length: classes }, (_, k) => sums.slice((k * known + kept) * width, (k + 1) * known * width));
    first = finished - 1;
  }
}
