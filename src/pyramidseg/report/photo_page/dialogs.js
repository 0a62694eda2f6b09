/** The dialogs: the token of the server, and the card of a model. */

import { $, element, swatch } from "./elements.js";
import { Refusal } from "./requests.js";

let asked = null; // the promise of a token while the dialog is open

/** Ask for the token; rejected if the dialog is cancelled. */
export function askToken(wasWrong) {
  asked ??= new Promise((resolve, reject) => {
    const dialog = $("token");
    if (wasWrong) $("token-text").textContent = "The server did not accept this token. Check it and try again.";
    $("token-value").value = dialog.returnValue = "";
    dialog.onclose = () => {
      asked = null;
      const value = $("token-value").value.trim();
      if (dialog.returnValue === "continue" && value) resolve(value);
      else reject(new Refusal("The server needs a token, and none was given.", { status: 401 }));
    };
    dialog.showModal();
  });
  return asked;
}

export function showCard(model) {
  const { name, classes, scores, input, ...others } = model;
  $("card-title").textContent = name;
  const chips = classes.map(({ name, color }) => element("li", {}, swatch(color), name));
  const part = (title, ...content) => [element("h3", { textContent: title }), ...content];
  $("card-content").replaceChildren(
    ...part("Scores", facts(scores, "No scores are stored with this model.")),
    ...part("Input", facts(input, "Not described.")),
    ...part(`Classes (${chips.length})`, element("ul", { className: "chips" }, ...chips)),
    ...part("Model", facts(others, "Not described.")),
  );
  $("card").showModal();
}

const isObject = (value) => value !== null && typeof value === "object";
const words = (key) => key.replaceAll("_", " ");

/** Names and values of an object of whatever depth; a list of objects is a table. */
function facts(value, otherwise) {
  if (typeof value === "string" && value) return element("p", { textContent: value });
  if (Array.isArray(value)) return table(value);
  const rows = Object.entries(value ?? {}).map(([key, entry]) => {
    const nested = Array.isArray(entry) ? entry.some(isObject) : isObject(entry);
    const content = element("dd", {}, nested ? facts(entry, "–") : plain(entry));
    return element("div", { className: nested ? "nested" : "" }, element("dt", { textContent: words(key) }), content);
  });
  return rows.length ? element("dl", { className: "facts" }, ...rows) : element("p", { textContent: otherwise });
}

function table(objects) {
  const keys = Object.keys(objects[0] ?? {}).filter((key) => key !== "id");
  const row = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, { textContent: text })));
  const body = objects.map((one) => row("td", keys.map((key) => plain(one?.[key] ?? null))));
  return element("div", { className: "wide" }, element("table", {}, row("th", keys.map(words)), ...body));
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (typeof value === "number") return value >= 0.001 && value < 100 ? value.toFixed(3) : value.toPrecision(3);
  return value === null ? "–" : isObject(value) ? JSON.stringify(value) : String(value);
}
