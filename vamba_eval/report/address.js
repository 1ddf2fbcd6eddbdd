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
  if (order !== "given") hash.set("order", order);
  if (pair.side) hash.set("pair", [pair.a, pair.b, pair.task, pair.side].join(","));
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
  order = ["hardest", "easiest"].includes(hash.get("order")) ? hash.get("order") : "given";
  drawHeads();
  readPair(hash.get("pair"));
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
  if (data.pairs.length) clearPair();
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
drawHeads();
setUpPairs();
applyFilters();
const linked = readHash();
ready = true;
prepareSearch();
setUpFigures();
// Figures above it have taken their place by then.
if (linked) addEventListener("load", () => byId("question").scrollIntoView({ block: "nearest" }));
