"use strict";
// The report's page, of the files that page.py joins. Data is in the element #data (see page.py), plotly.js in #plotly, pictures in #strip-N.
// Texts of models and annotations reach the page as text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const SYMBOLS = [
  ["circle", "●"], ["square", "■"], ["triangle-up", "▲"], ["cross", "✚"],
  ["triangle-down", "▼"], ["star", "★"], ["hexagon2", "⬢"], ["pentagon", "⬟"], // not ◆, which marks the frontier
];
const GLYPHS = { right: "✓", wrong: "✗", unparsed: "?", partial: "◐", failed: "!", neither: "–" };
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const byId = (id) => document.getElementById(id);

/** An element with attributes (functions become listeners) and children, of which strings become text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.startsWith("aria-")) element.setAttribute(name, value); // where "false" says something, too
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Call ``listener`` when a field has another value, letter by letter. */
function onEdit(field, listener) {
  if (field) field.addEventListener(field.tagName === "SELECT" ? "change" : "input", listener);
}

// ------------------------------------------------------------------------------------------------- marks, theme

/** Of the 9th model on, shapes are one further than colors, so that no two models have both. */
const symbolOf = (model) => SYMBOLS[(model + Math.floor(model / SYMBOLS.length)) % SYMBOLS.length];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colorOf = (model) => style(`--model-${model % 8}`);

/** Color and shape of a model, which mean the same everywhere on the page. */
function mark(model) {
  const element = h("span", { class: "mark", "data-model": model, "aria-hidden": "true" }, symbolOf(model)[1]);
  element.style.color = `var(--model-${model % 8})`;
  return element;
}

for (const place of document.querySelectorAll("span.mark")) {
  const { system, model } = place.dataset;
  place.replaceWith(mark(system === undefined ? Number(model) : data.systems[system].model));
}

const THEMES = ["system", "light", "dark"];
let theme = "system";
try { theme = localStorage.getItem("vamba-eval-theme") || theme; } catch { /* storage is off: follow the system */ }

function applyTheme() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").lastElementChild.textContent = theme;
}

byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem("vamba-eval-theme", theme); } catch { /* as above */ }
  applyTheme();
  redrawFigures();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redrawFigures());
applyTheme();
