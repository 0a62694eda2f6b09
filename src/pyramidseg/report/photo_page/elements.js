/** Elements of the page: found, and made. Texts go to textContent, so that they are never markup. */

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A square in a class's colour; without one it is empty. */
export function swatch(color) {
  const square = element("span", { className: "swatch" });
  if (color) square.style.setProperty("--color", `rgb(${color.join(" ")})`);
  return square;
}
