/** The script of the check before a page is published: each request takes the answer to the last file, and gets the next one. */

let [path, body] = ["/first", ""];
try {
  const { difference } = await globalThis.pyramidseg.ready();
  if (difference) [path, body] = ["/error", `it reads pixels that differ from Python's by up to ${difference}`];
} catch (error) {
  [path, body] = ["/error", String(error?.message ?? error)];
}
for (;;) {
  const next = await (await fetch(path, { method: "POST", body })).blob();
  if (!next.size) break;
  try {
    [path, body] = ["/answer", (await globalThis.pyramidseg.segment(next)).labels];
  } catch (error) {
    [path, body] = ["/error", String(error?.message ?? error)];
  }
}
