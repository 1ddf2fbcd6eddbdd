"use strict";
// The report's page. Data is in the element #data (see page.py), plotly.js in #plotly, pictures in #strip-N.
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

const symbolOf = (model) => SYMBOLS[model % SYMBOLS.length];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colorOf = (model) => style(`--model-${model % 8}`);

/** Color and shape of a model, which mean the same everywhere on the page. */
function mark(model) {
  const element = h("span", { class: "mark", "data-model": model, "aria-hidden": "true" }, symbolOf(model)[1]);
  element.style.color = `var(--model-${model % 8})`;
  return element;
}

for (const place of document.querySelectorAll("span.mark")) place.replaceWith(mark(Number(place.dataset.model)));

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

// ------------------------------------------------------------------------------------------------- results table

const table = byId("table");
const tableRows = [...table.tBodies[0].rows];

function sortTable(column, descending) {
  const key = (row) => row.cells[column].dataset.key;
  const numeric = tableRows.every((row) => key(row) === undefined || key(row) === "" || !isNaN(Number(key(row))));
  tableRows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // what is missing comes last
    const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
    return descending ? -order : order;
  });
  table.tBodies[0].append(...tableRows);
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    cell.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending");
  });
}

[...table.tHead.rows[0].cells].forEach((cell, column) => {
  cell.querySelector("button").addEventListener("click", () => {
    const now = cell.getAttribute("aria-sort");
    // Numbers are first wanted from the largest, names from A.
    sortTable(column, now === "none" ? cell.classList.contains("number") : now === "ascending");
  });
});

function filterTable() {
  const task = byId("table-task") ? byId("table-task").value : "";
  const text = byId("table-text").value.trim().toLowerCase();
  let shown = 0;
  for (const row of tableRows) {
    row.hidden = (task && row.dataset.task !== task) || !row.textContent.toLowerCase().includes(text);
    shown += !row.hidden;
  }
  byId("table-count").textContent = `${shown} ${shown === 1 ? "row" : "rows"}`;
}

for (const id of ["table-task", "table-text"]) onEdit(byId(id), filterTable);

// ------------------------------------------------------------------------------------------------- plots

const measured = data.results.filter((result) => result.system !== null && result.score !== null);
const tasksMeasured = [...new Set(measured.map((result) => result.task))];
const percent = (value, best = 1) => (100 * value) / (best || 1);
const shown = (value, unit = "%") => (unit === "%" ? (100 * value).toFixed(1) : value.toFixed(2));
const markup = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;"); // Plotly reads some HTML in texts
const modelOf = (result) => data.systems[result.system].model;
/** What tells a system from the others of its color. */
const shortLabel = (result) => {
  const { label, model } = data.systems[result.system];
  const alone = data.systems.filter((system) => system.model === model).length === 1;
  return markup(alone ? label : label.slice(data.models[model].length).replace(/^ · /, "").trim() || label);
};
const anyPoints = data.results.some((result) => result.score !== null && result.unit !== "%");
const SCORE = anyPoints ? "Score, % of the best possible" : "Accuracy, %";

let plotlyReady = null;

/** Unpack and run plotly.js, once. */
function loadPlotly() {
  plotlyReady ||= (async () => {
    if (document.readyState === "loading") {
      await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
    }
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    document.head.append(h("script", {}, await new Response(stream).text()));
    return window.Plotly;
  })();
  return plotlyReady;
}

function wrapped(text, width) {
  const lines = [""];
  for (const word of String(text).split(" ")) {
    if ((lines.at(-1) + word).length > width && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) && " ") + word;
  }
  return lines.map(markup).join("<br>");
}

const intervalText = (low, high, unit) => (low === null ? "" : ` [${shown(low, unit)}, ${shown(high, unit)}]`);

/** Scores with intervals, a band a category, a line in it a system. entries: {category, label, system, value, low, high, best, count} */
function dotPlot(categories, entries, chances, narrow) {
  const systems = [...new Set(entries.map((entry) => entry.system))].sort((a, b) => a - b);
  const band = systems.length + 1;
  const place = (category, system) => -(categories.indexOf(category) * band + systems.indexOf(system));
  const middle = (index) => -(index * band + (systems.length - 1) / 2);
  const several = new Set(systems.map((system) => data.systems[system].model)).size < systems.length;
  const traces = systems.map((system) => {
    const own = entries.filter((entry) => entry.system === system);
    const model = data.systems[system].model;
    const x = own.map((entry) => percent(entry.value, entry.best));
    return {
      type: "scatter", mode: "markers", name: markup(data.systems[system].label), x,
      y: own.map((entry) => place(entry.category, system)),
      hovertext: own.map((entry) => `${markup(entry.label)}<br>${wrapped(entry.category, 40)}<br><b>${shown(entry.value, entry.unit)}</b>${intervalText(entry.low, entry.high, entry.unit)}<br>${entry.count}`),
      hoverinfo: "text",
      marker: { color: colorOf(model), symbol: symbolOf(model)[0], size: 9 },
      error_x: {
        type: "data", symmetric: false, thickness: 1.5, width: 3, color: colorOf(model),
        array: own.map((entry, i) => (entry.high === null ? 0 : percent(entry.high, entry.best) - x[i])),
        arrayminus: own.map((entry, i) => (entry.low === null ? 0 : x[i] - percent(entry.low, entry.best))),
      },
    };
  });
  if (several) { // one color for several: the number of frames stands behind each bar
    traces.push({
      type: "scatter", mode: "text", name: "frames", hoverinfo: "skip", x: entries.map((entry) => percent(entry.high ?? entry.value, entry.best)),
      y: entries.map((entry) => place(entry.category, entry.system)), text: entries.map((entry) => ` ${shortLabel(entry)}`),
      textposition: "middle right", textfont: { size: 10, color: style("--muted") }, cliponaxis: false,
    });
  }
  categories.forEach((category, index) => {
    for (const entry of chances.filter((chance) => chance.category === category)) {
      traces.push({
        type: "scatter", mode: "lines", name: "guessing", x: Array(2).fill(100 * entry.chance),
        y: [middle(index) + band / 2 - 0.3, middle(index) - band / 2 + 0.3], hoverinfo: "text",
        hovertext: `guessing: ${shown(entry.chance)}`, line: { color: style("--muted"), width: 1.5, dash: "dot" },
      });
    }
  });
  const ends = entries.flatMap((entry) => [entry.value, entry.low ?? entry.value, entry.high ?? entry.value].map((value) => percent(value, entry.best)));
  const least = Math.min(...ends, ...chances.map((chance) => 100 * chance.chance));
  return [traces, {
    height: 70 + Math.max(110, categories.length * (systems.length * 15 + 14)),
    xaxis: { title: { text: SCORE }, range: [Math.max(-1, least - 3), Math.max(...ends) + (several ? 5 : 2)] },
    yaxis: {
      tickvals: categories.map((_, index) => middle(index)), ticktext: categories.map((category) => wrapped(category, narrow ? 13 : 22)),
      range: [middle(categories.length - 1) - band / 2, middle(0) + band / 2], showgrid: false, automargin: true, fixedrange: true,
    },
    shapes: categories.slice(1).map((_, index) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: middle(index) - band / 2, y1: middle(index) - band / 2,
      line: { color: style("--line"), width: 1 },
    })),
  }];
}

/** Those of comparable results that no other one beats, cheapest first; for latency, the leaderboard has said which. */
function frontier(results, cost) {
  const unbeaten = (one) => !results.some((other) => other[cost] <= one[cost] && other.score >= one.score
    && (other[cost] < one[cost] || other.score > one.score));
  return results.filter((one) => (cost === "latency" ? one.frontier : unbeaten(one))).sort((a, b) => a[cost] - b[cost]);
}

/** Error bars from the 5th to the 95th percentile of latency. */
const percentiles = (results, model) => ({
  type: "data", symmetric: false, thickness: 1, width: 0, color: colorOf(model),
  array: results.map((result) => result.latency_p95 - result.latency),
  arrayminus: results.map((result) => result.latency - result.latency_p5),
});

function againstCost(task, cost, axis, narrow) {
  const results = measured.filter((result) => result.task === task && result[cost] !== null && result[cost] > 0);
  const groups = new Map();
  for (const result of results) {
    if (result.alike === null) continue;
    const key = cost === "peak" ? `${result.alike} ${result.peak_kind}` : result.alike;
    groups.set(key, [...(groups.get(key) || []), result]);
  }
  const best = new Set();
  const traces = [];
  for (const alike of groups.values()) {
    const line = frontier(alike, cost);
    line.forEach((result) => best.add(result));
    traces.push({
      type: "scatter", mode: "lines", name: "frontier", hoverinfo: "skip", x: line.map((r) => r[cost]),
      y: line.map((r) => percent(r.score, r.best)), line: { shape: "hv", dash: "dash", width: 1.5, color: style("--muted") },
    });
  }
  const named = results.length <= (narrow ? 6 : 14);
  const costs = results.map((result) => result[cost]);
  const spread = Math.max(...costs) / Math.min(...costs) > 8;
  const middle = spread ? Math.sqrt(Math.max(...costs) * Math.min(...costs)) : Math.max(...costs) / 2;
  for (const model of new Set(results.map(modelOf))) {
    const own = results.filter((result) => modelOf(result) === model);
    const y = own.map((result) => percent(result.score, result.best));
    traces.push({
      type: "scatter", mode: named ? "markers+text" : "markers", name: markup(data.models[model]), x: own.map((result) => result[cost]), y,
      text: own.map(shortLabel), textfont: { size: 11, color: colorOf(model) },
      textposition: own.map((result) => (result[cost] > middle ? "top left" : "top right")),
      hovertext: own.map((result) => `${markup(result.label)}${best.has(result) ? " (frontier)" : ""}<br><b>${shown(result.score, result.unit)}</b>${intervalText(result.low, result.high, result.unit)}<br>${result[cost].toPrecision(3)} ${axis.unit}${cost === "latency" ? ` (${result.latency_p5.toPrecision(3)} to ${result.latency_p95.toPrecision(3)})` : ""}<br>${markup(result.hardware)}`),
      hoverinfo: "text",
      marker: {
        color: colorOf(model), symbol: symbolOf(model)[0], opacity: 1, size: own.map((result) => (best.has(result) ? 12 : 9)),
        line: { color: style("--text"), width: own.map((result) => (best.has(result) ? 2 : 0)) },
      },
      error_x: cost !== "latency" ? undefined : percentiles(own, model),
      error_y: {
        type: "data", symmetric: false, thickness: 1.5, width: 3, color: colorOf(model),
        array: own.map((result, i) => (result.high === null ? 0 : percent(result.high, result.best) - y[i])),
        arrayminus: own.map((result, i) => (result.low === null ? 0 : y[i] - percent(result.low, result.best))),
      },
    });
  }
  const layout = {
    height: 380, yaxis: { title: { text: SCORE }, automargin: true },
    xaxis: spread
      ? { title: { text: axis.title }, type: "log", dtick: "D2", tickformat: ".3~g" }
      : { title: { text: axis.title }, rangemode: "tozero" },
  };
  const all = cost === "latency" ? results.flatMap((result) => [result.latency_p5, result.latency_p95]) : costs;
  if (spread) layout.xaxis.range = [Math.log10(Math.min(...all)) - 0.2, Math.log10(Math.max(...all)) + 0.2];
  return [traces, layout];
}

const ladder = (task) => {
  const results = measured.filter((result) => result.task === task && typeof result.frames === "number");
  const counts = (model) => new Set(results.filter((result) => modelOf(result) === model).map((result) => result.frames)).size;
  return results.filter((result) => counts(modelOf(result)) > 1).sort((a, b) => a.frames - b.frames);
};

function againstFrames(task) {
  const results = ladder(task);
  const panels = [["score", SCORE], ["latency", "Latency, s"], ["peak", "Peak memory, GiB"]];
  const traces = [];
  for (const model of new Set(results.map(modelOf))) {
    const own = results.filter((result) => modelOf(result) === model);
    panels.forEach(([field, title], panel) => {
      const known = own.filter((result) => result[field] !== null);
      const y = known.map((result) => (field === "score" ? percent(result.score, result.best) : result[field]));
      traces.push({
        type: "scatter", mode: "lines+markers", name: markup(data.models[model]), x: known.map((result) => result.frames), y,
        yaxis: panel ? `y${panel + 1}` : "y", hoverinfo: "text", meta: field,
        hovertext: known.map((result, i) => `${markup(result.label)}<br>${result.frames} frames<br><b>${y[i].toPrecision(3)}</b> ${title.split(", ")[1]}`),
        line: { color: colorOf(model), width: 2 }, marker: { color: colorOf(model), symbol: symbolOf(model)[0], size: 8 },
        error_y: field === "latency" ? percentiles(known, model) : field === "peak" ? undefined : {
          type: "data", symmetric: false, thickness: 1, width: 3, color: colorOf(model),
          array: known.map((result, i) => (result.high === null ? 0 : percent(result.high, result.best) - y[i])),
          arrayminus: known.map((result, i) => (result.low === null ? 0 : y[i] - percent(result.low, result.best))),
        },
      });
    });
  }
  const frames = [...new Set(results.map((result) => result.frames))].sort((a, b) => a - b);
  const layout = {
    height: 560,
    xaxis: { title: { text: "Frames a video" }, type: "log", tickvals: frames, ticktext: frames.map(String), anchor: "y3" },
  };
  panels.forEach(([field, title], panel) => {
    layout[panel ? `yaxis${panel + 1}` : "yaxis"] = {
      title: { text: title }, domain: [1 - (panel + 1) / 3 + 0.04, 1 - panel / 3], automargin: true,
      rangemode: field === "score" ? "normal" : "tozero",
    };
  });
  return [traces, layout];
}

/** The benchmark that the figures show, for those about one; and the group that is broken down. */
const choice = { task: tasksMeasured[0], group: null };

const groupsOf = (task) => [...new Set(measured.filter((result) => result.task === task).flatMap((result) => Object.keys(result.breakdowns)))];

function breakdown(task, group, narrow) {
  const results = measured.filter((result) => result.task === task && result.breakdowns[group]);
  const values = [...new Set(results.flatMap((result) => Object.keys(result.breakdowns[group])))];
  const order = ["short", "medium", "long"];
  values.sort((a, b) => order.indexOf(a) - order.indexOf(b) || a.localeCompare(b, undefined, { numeric: true }));
  const entries = results.flatMap((result) => Object.entries(result.breakdowns[group]).map(([value, [score, low, high, count]]) => ({
    category: value, label: result.label, system: result.system, value: score, low, high, best: result.best, unit: result.unit,
    count: `${count.toLocaleString("en")} questions`,
  })));
  return dotPlot(values, entries, [], narrow);
}

function byBenchmark(narrow) {
  const entries = measured.map((result) => ({
    category: data.tasks[result.task], label: result.label, system: result.system, value: result.score,
    low: result.low, high: result.high, best: result.best, unit: result.unit, count: `${markup(result.metric)}, ${result.answered.toLocaleString("en")} responses`,
  }));
  const chances = new Map();
  for (const result of measured) if (result.chance !== null && !chances.has(result.task)) chances.set(result.task, result.chance);
  const [traces, layout] = dotPlot(tasksMeasured.map((task) => data.tasks[task]), entries,
    [...chances].map(([task, chance]) => ({ category: data.tasks[task], chance })), narrow);
  const reported = data.results.filter((result) => result.system === null && tasksMeasured.includes(result.task));
  if (reported.length) {
    const systems = new Set(entries.map((entry) => entry.system)).size;
    traces.push({
      type: "scatter", mode: "markers", name: "reported", x: reported.map((result) => percent(result.score, result.best)),
      y: reported.map((result) => -(tasksMeasured.indexOf(result.task) * (systems + 1) + systems - 0.45)), hoverinfo: "text",
      hovertext: reported.map((result) => `${markup(result.label)}<br><b>${shown(result.score, result.unit)}</b><br>${wrapped(result.source, 40)}`),
      marker: { symbol: "line-ns-open", size: 9, color: style("--muted"), line: { width: 1.5 } },
    });
  }
  return [traces, layout];
}

const perTask = tasksMeasured.length > 1 ? () => ` · ${data.tasks[choice.task]}` : () => "";
const FIGURES = [
  { id: "by-benchmark", title: () => "Accuracy by benchmark", wide: true, draw: (narrow) => byBenchmark(narrow),
    note: "Bars are 95 % intervals, clustered by video; dotted: guessing. Grey ticks, if any: reported by others." },
  { id: "latency", title: () => `Accuracy against latency${perTask()}`,
    draw: (narrow) => againstCost(choice.task, "latency", { title: "Seconds to a first answer, median", unit: "s" }, narrow),
    note: "From a video's frames to the first answer about it; thin bars: 5th to 95th percentile. Outlined and joined: no other model on the same hardware is as accurate and as fast. Incomplete runs take no part." },
  { id: "memory", title: () => `Accuracy against memory${perTask()}`,
    draw: (narrow) => againstCost(choice.task, "peak", { title: "Peak memory, GiB", unit: "GiB" }, narrow),
    note: "Outlined and joined: no other model on the same hardware is as accurate with as little memory. Incomplete runs take no part." },
  { id: "breakdown", title: () => `By group${perTask()}`, wide: true, draw: (narrow) => breakdown(choice.task, choice.group, narrow), groups: true,
    note: "Bars are 95 % intervals, clustered by video." },
  { id: "frames", title: () => `Against frames${perTask()}`, wide: true, draw: () => againstFrames(choice.task),
    note: "The same model with other numbers of frames. Latency: from a video's frames to the first answer about it, median with 5th to 95th percentile." },
];

const drawnFigures = new Set();

function available(figure) {
  if (figure.id === "frames") return ladder(choice.task).length > 0;
  if (figure.id === "breakdown") return groupsOf(choice.task).length > 0;
  if (figure.id === "latency") return measured.some((result) => result.task === choice.task && result.latency > 0);
  if (figure.id === "memory") return measured.some((result) => result.task === choice.task && result.peak > 0);
  return measured.length > 0;
}

async function drawFigure(figure) {
  const box = byId(`figure-${figure.id}`);
  const Plotly = await loadPlotly();
  const area = box.querySelector(".plot");
  const narrow = area.clientWidth < 480;
  const [traces, layout] = figure.draw(narrow);
  const axis = { gridcolor: style("--line"), zeroline: false, linecolor: style("--line"), color: style("--text"), fixedrange: true };
  for (const name of Object.keys(layout)) if (/^[xy]axis\d?$/.test(name)) layout[name] = { ...axis, ...layout[name] };
  await Plotly.react(area, traces, {
    showlegend: false, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    margin: { l: 50, r: 16, t: 8, b: 44 }, font: { family: style("--font"), size: 12, color: style("--text") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--muted"), activecolor: style("--text") },
    hoverlabel: { bgcolor: style("--raised"), bordercolor: style("--line"), font: { color: style("--text"), family: style("--font") }, align: "left" },
    ...layout,
  }, { displaylogo: false, displayModeBar: narrow ? false : "hover", responsive: true, modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg", filename: figure.id } });
  drawnFigures.add(figure);
  fillNumbers(box, traces);
}

/** The plotted numbers as a table, for those who cannot or do not want to see them drawn. */
function fillNumbers(box, traces) {
  const rows = traces.filter((trace) => trace.hovertext && trace.mode !== "lines").flatMap((trace) => trace.hovertext);
  const plain = (text) => text.replace(/<\/?b>/g, "").replace(/<br>/g, " · ").replace(/&lt;/g, "<").replace(/&amp;/g, "&");
  box.querySelector("details ul").replaceChildren(...rows.map((text) => h("li", {}, plain(text))));
}

function redrawFigures() {
  for (const figure of drawnFigures) if (!byId(`figure-${figure.id}`).hidden) drawFigure(figure);
}

function updateFigures() {
  const groups = groupsOf(choice.task);
  if (!groups.includes(choice.group)) choice.group = groups.find((group) => /duration/.test(group)) || groups[0];
  for (const figure of FIGURES) {
    const box = byId(`figure-${figure.id}`);
    box.hidden = !available(figure);
    box.querySelector("h3").textContent = figure.title();
    if (figure.groups) {
      box.querySelector("select").replaceChildren(...groups.map((group) => h("option", { value: group }, group)));
      box.querySelector("select").value = choice.group;
    }
  }
  redrawFigures();
}

function setUpFigures() {
  const used = [...new Set(data.systems.map((system) => system.model))];
  byId("legend").append(...used.map((model) => h("li", {}, mark(model), data.models[model])));
  if (tasksMeasured.length > 1) {
    const select = h("select", { id: "plot-task", change: () => { choice.task = Number(select.value); updateFigures(); } },
      tasksMeasured.map((task) => h("option", { value: task }, data.tasks[task])));
    byId("legend").before(h("div", { class: "controls" }, h("label", {}, "Benchmark of the figures about one ", select)));
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const figure = FIGURES.find((one) => `figure-${one.id}` === entry.target.id);
      if (entry.isIntersecting && !drawnFigures.has(figure)) { seen.unobserve(entry.target); drawFigure(figure); }
    }
  }, { rootMargin: "300px" });
  for (const figure of FIGURES) {
    const select = figure.groups && h("select", { change: () => { choice.group = select.value; drawFigure(figure); } });
    const box = h("figure", { id: `figure-${figure.id}`, class: figure.wide ? "wide" : "" },
      h("h3", {}), select && h("label", {}, "Group ", select),
      h("div", { class: "plot", role: "img", "aria-label": `${figure.id.replace("-", " ")} plot; its numbers are in the list below` }),
      h("figcaption", {}, figure.note),
      h("details", {}, h("summary", {}, "Numbers"), h("ul", {})));
    byId("figures").append(box);
    seen.observe(box);
  }
  updateFigures();
}

// ------------------------------------------------------------------------------------------------- questions

const FIELDS = ["system", "state", "text", "extracted", "prompt", "strip", "seed", "encode_s", "answer_s", "tokens", "rare"];
const questions = data.questions;
const list = byId("question-list");
const ROW = 50; // pixels; as in the style sheet
const text = (place) => (place < 0 ? "" : data.strings[place]);
const members = (value) => (Array.isArray(value) ? value : [value]);

/** Lines that most prompts of a benchmark have say nothing about a question. */
function commonLines(task) {
  const counts = new Map();
  const prompts = questions.filter((q) => q.task === task).map((q) => q.prompt).filter((place) => place >= 0);
  for (const place of prompts) for (const line of new Set(text(place).split("\n"))) counts.set(line, (counts.get(line) || 0) + 1);
  return new Set([...counts].filter(([, count]) => count > 2 && count > prompts.length / 2).map(([line]) => line));
}

for (const q of questions) {
  q.responses = q.responses.map((values) => {
    const response = Object.fromEntries(FIELDS.map((field, i) => [field, values[i]]));
    response.state = data.states[response.state];
    return response;
  });
  const asked = q.responses.find((response) => response.prompt >= 0);
  q.prompt = asked ? asked.prompt : -1;
  const answers = q.responses.filter((response) => response.state !== "failed");
  const kinds = answers.map((response) => (q.options.length ? response.extracted : response.state));
  q.disagree = new Set(answers.map((response) => response.system)).size > 1 && new Set(kinds).size > 1;
}
for (const task of new Set(questions.map((q) => q.task))) {
  let common = null;
  for (const q of questions) {
    if (q.task !== task) continue;
    if (q.text >= 0) { q.title = text(q.text); continue; }
    common ||= commonLines(task);
    q.title = text(q.prompt).split("\n").find((line) => line.trim() && !common.has(line)) || text(q.prompt) || "(never put to a model)";
  }
}

// Who answers a question, of those that all models answered: its kinds, as page.py gives them.
const KINDS = {
  all: "every looking model", some: "some looking models", none: "no looking model",
  blind: "every blind model", "some blind": "some blind models", "no blind": "no blind model",
};
const FIELD_FILTERS = ["model", "task", "group", "answered", "text"];
const filters = { states: new Set(), model: "", task: "", group: "", answered: "", text: "", disagree: false };
let shownQuestions = questions;
let current = null;

function searchable(q) {
  q.haystack ||= [q.id, q.video, text(q.text), text(q.prompt), ...q.options.map(text), ...q.responses.map((r) => text(r.text))].join("\n").toLowerCase();
  return q.haystack;
}

/** Whether a question passes all filters but that of states, which it may be counted under. */
function passes(q, needle) {
  if (filters.task !== "" && q.task !== Number(filters.task)) return false;
  if (filters.disagree && !q.disagree) return false;
  if (filters.answered && !q.kinds.includes(filters.answered)) return false;
  if (filters.group) {
    const [name, value] = JSON.parse(filters.group);
    if (!(name in q.groups) || !members(q.groups[name]).includes(value)) return false;
  }
  return !needle || searchable(q).includes(needle);
}

/** Prepare the search while nothing else is to be done, so that its first letter is as fast as the others. */
function prepareSearch(from = 0) {
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  idle(() => {
    questions.slice(from, from + 200).forEach(searchable);
    if (from + 200 < questions.length) prepareSearch(from + 200);
  });
}

const ofModel = (q) => (filters.model === "" ? q.responses : q.responses.filter((r) => r.system === Number(filters.model)));

function applyFilters() {
  const needle = filters.text.trim().toLowerCase();
  const counts = Object.fromEntries(data.states.map((state) => [state, 0]));
  let disagreeing = 0;
  shownQuestions = [];
  for (const q of questions) {
    if (!passes(q, needle)) continue;
    const states = new Set(ofModel(q).map((response) => response.state));
    if (!states.size) continue;
    for (const state of states) counts[state] += 1;
    if (filters.states.size && ![...filters.states].some((state) => states.has(state))) continue;
    disagreeing += q.disagree;
    shownQuestions.push(q);
  }
  for (const button of byId("filter-states").children) {
    button.querySelector("b").textContent = counts[button.dataset.state].toLocaleString("en");
    button.setAttribute("aria-pressed", filters.states.has(button.dataset.state));
  }
  byId("filter-disagree").querySelector("b").textContent = disagreeing.toLocaleString("en");
  byId("filter-disagree").setAttribute("aria-pressed", filters.disagree);
  byId("question-count").textContent = `${shownQuestions.length.toLocaleString("en")} of ${questions.length.toLocaleString("en")} questions`;
  list.scrollTop = 0;
  list.firstElementChild.style.height = `${shownQuestions.length * ROW}px`;
  if (!shownQuestions.includes(current)) current = null;
  select(current || shownQuestions[0] || null);
}

function glyph(state, title) {
  return h("span", { class: `state ${state}`, title, role: "img", "aria-label": title }, GLYPHS[state]);
}

function summaryOf(q) {
  if (q.responses.length > 8) {
    const right = q.responses.filter((response) => response.state === "right").length;
    return [h("span", { class: "share" }, `${right}/${q.responses.length} right`)];
  }
  return q.responses.map((r) => glyph(r.state, `${data.systems[r.system].label}: ${r.state}`));
}

function listRow(index) {
  const q = shownQuestions[index];
  const row = h("div", {
    role: "option", id: `row-${index}`, class: "row", "aria-selected": q === current, "aria-setsize": shownQuestions.length,
    "aria-posinset": index + 1, "data-key": q.key, click: () => { select(q); showQuestion(); },
  }, h("span", { class: "title" }, q.title.slice(0, 200)), h("span", { class: "about" }, `${q.id} · ${q.video}`), h("span", { class: "states" }, summaryOf(q)));
  row.style.top = `${index * ROW}px`;
  return row;
}

/** Only the rows in view exist. Those that do already stay: one that is pressed while the list moves keeps its click. */
function fillList() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(shownQuestions.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const rows = list.firstElementChild;
  for (const row of [...rows.children]) {
    const index = row.getAttribute("aria-posinset") - 1;
    if (index < first || index >= last) row.remove();
  }
  for (let index = first; index < last; index += 1) {
    const there = rows.children[index - first];
    if (there?.id !== `row-${index}`) rows.insertBefore(listRow(index), there ?? null);
  }
  const index = shownQuestions.indexOf(current);
  if (index >= first && index < last) list.setAttribute("aria-activedescendant", `row-${index}`);
  else list.removeAttribute("aria-activedescendant");
}

function drawList() {
  list.firstElementChild.replaceChildren();
  fillList();
}

let filling = false;
list.addEventListener("scroll", () => {
  if (filling) return;
  filling = true;
  requestAnimationFrame(() => { filling = false; fillList(); });
});
new ResizeObserver(fillList).observe(list);

function select(q) {
  current = q;
  if (q) {
    const top = shownQuestions.indexOf(q) * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
  drawList();
  drawQuestion();
  writeHash();
}

function step(by) {
  const index = shownQuestions.indexOf(current) + by;
  if (shownQuestions.length) select(shownQuestions[Math.min(shownQuestions.length - 1, Math.max(0, index))]);
}

/** On a phone the question is below the list. */
function showQuestion() {
  const box = byId("question");
  if (box.getBoundingClientRect().top > innerHeight * 0.8 || matchMedia("(max-width: 799px)").matches) box.scrollIntoView({ block: "start" });
}

/** A time in a video, as 1:02:03 or 2:03; tenths where the frames shown are less than a minute apart from the start. */
function clock(seconds, last) {
  if (seconds === null) return "no time";
  if (last < 60) return `${seconds.toFixed(1)} s`;
  const two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, two(Math.floor(seconds) % 60)];
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

let pictureUrl = null;

/** A strip's frames, cut apart so that they wrap. */
function frames(place) {
  const strip = data.strips[place];
  const source = strip.image === null ? null : byId(`strip-${strip.image}`);
  if (strip.image === null) return h("p", { class: "meta" }, "The frames of this clip were left out to keep the page small.");
  if (!source) { // this part of the page is still on its way
    document.addEventListener("DOMContentLoaded", drawQuestion, { once: true });
    return h("p", { class: "meta" }, "The frames are still loading.");
  }
  if (pictureUrl) URL.revokeObjectURL(pictureUrl);
  const bytes = Uint8Array.from(atob(source.textContent), (letter) => letter.charCodeAt(0));
  pictureUrl = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  const count = strip.indices.length;
  const pictures = strip.indices.map((index, i) => {
    const time = clock(strip.times[i], strip.times.at(-1));
    const picture = h("div", { class: "frame", role: "img", "aria-label": `Frame ${index} at ${time}` });
    picture.style.backgroundImage = `url("${pictureUrl}")`;
    picture.style.backgroundSize = `${count * 100}% 100%`;
    picture.style.backgroundPosition = `${count > 1 ? (100 * i) / (count - 1) : 0}% 0`;
    picture.style.aspectRatio = strip.aspect;
    return h("li", {}, picture, time, h("small", {}, `#${index}`));
  });
  return [h("ol", { class: "strip", "aria-label": "Frames that the models saw" }, pictures),
    h("p", { class: "meta" }, `${count} of the ${strip.total.toLocaleString("en")} frames that the models saw; time in the video and # position of the frame in it.`)];
}

let chosenStrip = null;

function strips(q) {
  const places = [...new Set(q.responses.map((response) => response.strip).filter((place) => place !== null))];
  if (!places.length) return h("p", { class: "meta" }, "No frames were kept.");
  if (!places.includes(chosenStrip)) chosenStrip = places[0];
  const buttons = places.length < 2 ? null : h("div", { class: "chips" }, places.map((place) => {
    const names = [...new Set(q.responses.filter((r) => r.strip === place).map((r) => data.systems[r.system].label))];
    return h("button", { type: "button", class: "chip", "aria-pressed": place === chosenStrip, click: () => { chosenStrip = place; drawQuestion(); } },
      `${names.join(", ")} (${data.strips[place].total} frames)`);
  }));
  return [buttons, frames(chosenStrip)];
}

function options(q) {
  if (!q.options.length) return q.answer === null ? null : h("p", { class: "reference" }, h("b", {}, "Reference answer: "), q.answer);
  return h("ol", { class: "options" }, q.options.map((place, index) => {
    const letter = LETTERS[index];
    const right = letter === q.answer;
    const chosen = q.responses.filter((response) => response.extracted === letter && response.state !== "unparsed");
    return h("li", { class: right ? "right" : "" }, h("b", { class: "letter" }, letter),
      h("span", {}, text(place), right ? h("em", {}, " ✓ right answer") : null),
      h("span", { class: "chosen" }, chosen.map((response) => {
        const name = `chosen by ${data.systems[response.system].label}`;
        return h("span", { title: name, role: "img", "aria-label": name }, mark(data.systems[response.system].model));
      })));
  }));
}

function verdict(response) {
  const word = response.state === "neither" ? "not graded" : response.state;
  return h("span", { class: `verdict ${response.state}` }, `${GLYPHS[response.state]} ${word}`);
}

function responseRow(q, response, several) {
  const system = data.systems[response.system];
  const { rare } = response;
  const facts = [];
  if (rare.drawn) facts.push(`${response.extracted} was drawn at random`);
  else if (response.extracted !== null) facts.push(response.state === "unparsed" ? `read as ${response.extracted}, which is no option` : `answer ${response.extracted}`);
  for (const [name, grade] of Object.entries(rare.values || {})) facts.push(`${name} ${Number(grade.toPrecision(3))}`);
  if (response.encode_s !== null) facts.push(`encode ${response.encode_s} s`);
  if (response.answer_s !== null) facts.push(`answer ${response.answer_s} s`);
  if (response.tokens) facts.push(`${response.tokens.toLocaleString("en")} tokens`);
  if (rare.cut) facts.push("cut off at the longest length");
  if (!system.looks) facts.push("saw no frames");
  const failed = response.state === "failed";
  return h("li", {},
    h("div", { class: "who" }, mark(system.model), h("b", {}, system.label), several ? `seed ${response.seed}` : null, verdict(response), h("span", { class: "meta" }, facts.join(" · "))),
    failed ? h("pre", { class: "error" }, text(response.text)) : h("pre", {}, text(response.text) || h("i", {}, "(empty response)")),
    rare.note ? h("p", { class: "meta" }, rare.note) : null);
}

function drawQuestion() {
  const q = current;
  const box = byId("question");
  if (!q) { box.replaceChildren(h("p", { class: "meta" }, "No question passes the filters.")); return; }
  const index = shownQuestions.indexOf(q);
  const several = new Set(q.responses.map((response) => response.seed)).size > 1;
  const prompts = [...new Set(q.responses.map((response) => response.prompt).filter((place) => place >= 0))];
  const missing = data.systems.map((_, system) => system).filter((system) => !q.responses.some((response) => response.system === system)
    && data.results.some((result) => result.system === system && result.task === q.task));
  const open = box.querySelector("details.prompts")?.open;
  box.replaceChildren(
    h("div", { class: "question-head" },
      h("div", {}, h("h3", {}, q.id), h("p", { class: "meta" }, `${data.tasks[q.task]} · video ${q.video}`)),
      h("div", { class: "steps" },
        h("button", { type: "button", class: "quiet", id: "previous", disabled: index <= 0, click: () => { step(-1); byId("previous").focus(); } }, "← Previous"),
        h("button", { type: "button", class: "quiet", id: "next", disabled: index >= shownQuestions.length - 1, click: () => { step(1); byId("next").focus(); } }, "Next →"),
        h("a", { class: "quiet", id: "permalink", href: `#${new URLSearchParams({ q: q.key })}` }, "Link"))),
    ...[strips(q)].flat(2).filter(Boolean),
    h("p", { class: "question-text" }, q.text >= 0 ? text(q.text) : text(q.prompt) || "(this question was never put to a model)"),
    ...[options(q)].filter(Boolean),
    h("ul", { class: "groups", "aria-label": "Groups" }, Object.entries(q.groups).flatMap(([name, value]) => members(value).map((one) => h("li", {}, h("span", {}, `${name} `), one)))),
    h("h4", {}, "Responses"),
    h("ul", { class: "responses" }, q.responses.map((response) => responseRow(q, response, several))),
    ...(missing.length ? [h("p", { class: "meta" }, `Not asked: ${missing.map((system) => data.systems[system].label).join(", ")}`)] : []),
    ...(prompts.length ? [h("details", { class: "prompts", open }, h("summary", {}, prompts.length > 1 ? `Prompts (${prompts.length})` : "Prompt"), prompts.map((place) => {
      const names = q.responses.filter((response) => response.prompt === place).map((response) => data.systems[response.system].label);
      return [prompts.length > 1 ? h("p", { class: "meta" }, [...new Set(names)].join(", ")) : null, h("pre", {}, text(place))];
    }).flat().filter(Boolean))] : []));
}

// ------------------------------------------------------------------------------------------------- address, keys

let ready = false;
let written = null;

function writeHash() {
  if (!ready) return;
  const hash = new URLSearchParams();
  if (current) hash.set("q", current.key);
  for (const name of FIELD_FILTERS) if (filters[name] !== "") hash.set(name, filters[name]);
  if (filters.states.size) hash.set("states", [...filters.states].join(","));
  if (filters.disagree) hash.set("disagree", "1");
  written = `#${hash}`;
  clearTimeout(writeHash.timer); // browsers refuse more than a few changes a second
  writeHash.timer = setTimeout(() => history.replaceState(null, "", written), 150);
}

/** Take filters and question from the address; whether it names a question that is here. */
function readHash() {
  if (!location.hash.includes("=")) return false; // a section of the page
  const hash = new URLSearchParams(location.hash.slice(1));
  const group = hash.get("group") || "";
  const answered = hash.get("answered") || "";
  const known = (name, value) => [...byId(`filter-${name}`).querySelectorAll("option")].some((option) => option.value === value);
  Object.assign(filters, { model: hash.get("model") || "", task: hash.get("task") || "", group: known("group", group) ? group : "", answered: known("answered", answered) ? answered : "", text: hash.get("text") || "", disagree: hash.has("disagree") });
  filters.states = new Set((hash.get("states") || "").split(",").filter((state) => data.states.includes(state)));
  for (const name of FIELD_FILTERS) byId(`filter-${name}`).value = filters[name];
  const asked = questions.find((q) => q.key === hash.get("q"));
  current = asked || null;
  applyFilters();
  if (asked && current !== asked) { // hidden by the address' own filters: the question is what was asked for
    clearFilters();
    select(asked);
  }
  return Boolean(asked);
}

function clearFilters() {
  Object.assign(filters, { states: new Set(), model: "", task: "", group: "", answered: "", text: "", disagree: false });
  for (const name of FIELD_FILTERS) byId(`filter-${name}`).value = "";
  applyFilters();
}

function setUpFilters() {
  byId("filter-states").append(...data.states.map((state) => h("button", {
    type: "button", class: "chip", "data-state": state, "aria-pressed": "false",
    click: () => { if (!filters.states.delete(state)) filters.states.add(state); applyFilters(); },
  }, glyph(state, ""), ` ${state} `, h("b", {}))));
  const present = new Set(questions.flatMap((q) => q.responses.map((response) => response.state)));
  for (const button of byId("filter-states").children) button.hidden = ["neither", "partial"].includes(button.dataset.state) && !present.has(button.dataset.state);
  const all = (name) => h("option", { value: "" }, name);
  byId("filter-model").append(all("any"), ...data.systems.map((system, index) => h("option", { value: index }, system.label)));
  byId("filter-task").append(all("all"), ...[...new Set(questions.map((q) => q.task))].map((task) => h("option", { value: task }, data.tasks[task])));
  byId("filter-task").parentElement.hidden = byId("filter-task").options.length < 3;
  const values = new Map();
  for (const q of questions) {
    for (const [name, value] of Object.entries(q.groups)) {
      if (!values.has(name)) values.set(name, new Set());
      members(value).forEach((one) => values.get(name).add(one));
    }
  }
  byId("filter-group").append(all("all"), ...[...values].map(([name, ones]) => h("optgroup", { label: name },
    [...ones].sort((a, b) => String(a).localeCompare(String(b), undefined, { numeric: true })).map((value) => h("option", { value: JSON.stringify([name, value]) }, value)))));
  byId("filter-group").parentElement.hidden = !values.size;
  const kinds = new Set(questions.flatMap((q) => q.kinds));
  byId("filter-answered").append(all("any"), ...Object.entries(KINDS).filter(([kind]) => kinds.has(kind)).map(([kind, name]) => h("option", { value: kind }, name)));
  byId("filter-answered").parentElement.hidden = byId("filter-answered").options.length < 3;
  for (const name of FIELD_FILTERS) {
    onEdit(byId(`filter-${name}`), () => { filters[name] = byId(`filter-${name}`).value; applyFilters(); });
  }
  byId("filter-disagree").addEventListener("click", () => { filters.disagree = !filters.disagree; applyFilters(); });
  byId("filter-disagree").hidden = data.systems.length < 2;
  byId("filter-reset").addEventListener("click", clearFilters);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
  const steps = { j: 1, k: -1 };
  if (event.target === list) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -questions.length, End: questions.length });
  if (event.target.closest("#question")) Object.assign(steps, { ArrowRight: 1, ArrowLeft: -1 });
  if (event.key === "/") { event.preventDefault(); byId("filter-text").focus(); }
  else if (event.key in steps) {
    event.preventDefault();
    step(steps[event.key]);
    const box = byId("questions").getBoundingClientRect();
    if (box.top > innerHeight * 0.7 || box.bottom < 0) byId("questions").scrollIntoView();
  } else if (event.key === "Enter" && event.target === list) { showQuestion(); byId("question").focus({ preventScroll: true }); }
});

addEventListener("hashchange", () => {
  if (location.hash !== written && readHash()) byId("questions").scrollIntoView();
});

setUpFilters();
applyFilters();
const linked = readHash();
ready = true;
prepareSearch();
setUpFigures();
// Figures above it have taken their place by then.
if (linked) addEventListener("load", () => byId("question").scrollIntoView({ block: "nearest" }));
