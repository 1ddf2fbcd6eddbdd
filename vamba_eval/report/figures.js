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
const choice = { task: tasksMeasured[0], group: null, axis: "latency" };

const groupsOf = (task) => [...new Set(measured.filter((result) => result.task === task).flatMap((result) => Object.keys(result.breakdowns)))];

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

/** What accuracy is set against: by the field of a result. */
const AXES = {
  latency: { name: "latency", title: "Seconds to a first answer, median", unit: "s",
    note: "From a video's frames to the first answer about it; thin bars: 5th to 95th percentile. Outlined and joined: no other model on the same hardware is as accurate and as fast. Incomplete runs take no part." },
  peak: { name: "memory", title: "Peak memory, GiB", unit: "GiB",
    note: "Outlined and joined: no other model on the same hardware is as accurate with as little memory. Incomplete runs take no part." },
  price: { name: "price", title: "Dollars for 1,000 questions", unit: "$ for 1,000 questions",
    note: "Of served models with known prices. Outlined and joined: no other model is as accurate for as little. Incomplete runs take no part." },
};

const axesOf = (task) => Object.keys(AXES).filter((axis) => measured.some((result) => result.task === task && result[axis] > 0));

const perTask = tasksMeasured.length > 1 ? () => ` · ${data.tasks[choice.task]}` : () => "";
const FIGURES = [
  { id: "by-benchmark", title: () => "Accuracy by benchmark", wide: true, draw: (narrow) => byBenchmark(narrow),
    note: "Bars are 95 % intervals, clustered by video; dotted: guessing. Grey ticks, if any: reported by others." },
  { id: "cost", title: () => `Accuracy against ${AXES[choice.axis].name}${perTask()}`, wide: true,
    draw: (narrow) => againstCost(choice.task, choice.axis, AXES[choice.axis], narrow),
    note: () => AXES[choice.axis].note },
  { id: "frames", title: () => `Against frames${perTask()}`, wide: true, draw: () => againstFrames(choice.task),
    note: "The same model with other numbers of frames. Latency: from a video's frames to the first answer about it, median with 5th to 95th percentile." },
];

const drawnFigures = new Set();

function available(figure) {
  if (figure.id === "frames") return ladder(choice.task).length > 0;
  if (figure.id === "cost") return axesOf(choice.task).length > 0;
  return measured.length > 0;
}

/** As wide as its place is; on paper, which is not measured before it is printed, ``width`` pixels. */
async function drawFigure(figure, width) {
  const box = byId(`figure-${figure.id}`);
  const Plotly = await loadPlotly();
  const area = box.querySelector(".plot");
  const narrow = (width || area.clientWidth) < 480;
  const [traces, layout] = figure.draw(narrow);
  const axis = { gridcolor: style("--line"), zeroline: false, linecolor: style("--line"), color: style("--text"), fixedrange: true };
  for (const name of Object.keys(layout)) if (/^[xy]axis\d?$/.test(name)) layout[name] = { ...axis, ...layout[name] };
  await Plotly.react(area, traces, {
    showlegend: false, hovermode: "closest", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    margin: { l: 50, r: 16, t: 8, b: 44 }, font: { family: style("--font"), size: 12, color: style("--text") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--muted"), activecolor: style("--text") },
    hoverlabel: { bgcolor: style("--raised"), bordercolor: style("--line"), font: { color: style("--text"), family: style("--font") }, align: "left" },
    ...layout, ...(width ? { width } : {}),
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

const PAPER_PX = 680; // what a page of A4 or Letter has between its margins
addEventListener("beforeprint", () => { for (const figure of FIGURES) if (available(figure)) drawFigure(figure, PAPER_PX); });
addEventListener("afterprint", async () => {
  const Plotly = await loadPlotly();
  for (const figure of FIGURES) {
    if (!available(figure)) continue;
    await drawFigure(figure);
    Plotly.Plots.resize(byId(`figure-${figure.id}`).querySelector(".plot"));
  }
});

function updateFigures() {
  const axes = axesOf(choice.task);
  if (!axes.includes(choice.axis)) choice.axis = axes[0] || "latency";
  for (const figure of FIGURES) {
    const box = byId(`figure-${figure.id}`);
    box.hidden = !available(figure);
    box.querySelector("h3").textContent = figure.title();
    if (figure.id === "cost") {
      box.querySelector("figcaption").textContent = figure.note();
      box.querySelector("select").replaceChildren(...axes.map((axis) => h("option", { value: axis }, AXES[axis].name)));
      box.querySelector("select").value = choice.axis;
    }
  }
  redrawFigures();
  updateHeatmap();
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
    const select = figure.id === "cost" && h("select", { id: "plot-axis", change: () => { choice.axis = select.value; updateFigures(); } });
    const box = h("figure", { id: `figure-${figure.id}`, class: figure.wide ? "wide" : "" },
      h("h3", {}), select && h("label", {}, "Horizontal axis ", select),
      h("div", { class: "plot", role: "img", "aria-label": `${figure.id.replace("-", " ")} plot; its numbers are in the list below` }),
      h("figcaption", {}, typeof figure.note === "string" ? figure.note : ""),
      h("details", {}, h("summary", {}, "Numbers"), h("ul", {})));
    byId("figures").append(box);
    seen.observe(box);
  }
  byId("figure-by-benchmark").after(heatmapBox());
  updateFigures();
}
