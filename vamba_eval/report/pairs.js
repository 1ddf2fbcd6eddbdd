
// ------------------------------------------------------------------------------------------------- two models

const pair = { a: null, b: null, task: null, side: "" }; // side: "a" or "b" alone is right; else all questions
const PAIR_FIELDS = ["group", "value", "questions", "videos", "unit", "score_a", "score_b", "difference", "low", "high", "p", "smallest"];

/** The numbers of ``compare`` of the chosen two, the way round that was chosen; null where they are not paired. */
function comparison() {
  const found = data.pairs.find((one) => one.task === pair.task && ((one.a === pair.a && one.b === pair.b) || (one.a === pair.b && one.b === pair.a)));
  if (!found) return null;
  const turned = found.a !== pair.a;
  const less = (value) => (value === null ? null : -value);
  const differences = found.differences.map((values) => {
    const each = Object.fromEntries(PAIR_FIELDS.map((field, i) => [field, values[i]]));
    return turned ? { ...each, score_a: each.score_b, score_b: each.score_a, difference: -each.difference, low: less(each.high), high: less(each.low) } : each;
  });
  // Notes call the first of the pair A.
  const notes = turned ? [`In these notes A is ${data.systems[found.a].label}, B is ${data.systems[found.b].label}.`, ...found.notes] : found.notes;
  return { differences, notes, a: new Set(turned ? found.b_alone : found.a_alone), b: new Set(turned ? found.a_alone : found.b_alone) };
}

let compared = null;
const placeOf = new Map(questions.map((q, place) => [q, place]));
const passesPair = (q) => !pair.side || Boolean(compared?.[pair.side].has(placeOf.get(q)));
const signedText = (value, unit) => `${value < 0 ? "−" : "+"}${shown(Math.abs(value), unit)}`;
const spanText = (each) => (each.low === null ? "" : ` [${signedText(each.low, each.unit)}, ${signedText(each.high, each.unit)}]`);
const pText = (p) => (p === null ? "–" : p >= 0.001 ? p.toFixed(3) : "< 0.001");

function drawPair() {
  compared = comparison();
  for (const side of ["a", "b"]) {
    const button = byId(`pair-${side}-alone`);
    button.disabled = !compared;
    button.setAttribute("aria-pressed", String(pair.side === side));
    button.querySelector("b").textContent = compared ? compared[side].size.toLocaleString("en") : "";
  }
  const first = compared?.differences[0];
  const [a, b] = [pair.a, pair.b].map((system) => data.systems[system].label);
  if (!compared) byId("pair-says").textContent = a === b ? "Choose two different models." : "These two are not paired on this benchmark.";
  else if (!first) byId("pair-says").textContent = "No question was scored for both.";
  else {
    byId("pair-says").replaceChildren(
      h("b", {}, `B − A: ${signedText(first.difference, first.unit)}${spanText(first)}`), `, p ${first.p !== null && first.p < 0.001 ? "" : "= "}${pText(first.p)} `,
      h("span", { class: "meta" }, `(${first.value}; A ${shown(first.score_a, first.unit)}, B ${shown(first.score_b, first.unit)}; ${first.questions.toLocaleString("en")} questions about ${first.videos.toLocaleString("en")} videos that both answered; 95 % interval, paired by question and clustered by video; p is of this pair alone)`));
  }
  const rows = (compared?.differences ?? []).map((each) => h("tr", {}, h("th", { scope: "row" }, `${each.group}: ${each.value}`),
    [each.questions.toLocaleString("en"), shown(each.score_a, each.unit), shown(each.score_b, each.unit), signedText(each.difference, each.unit) + spanText(each), pText(each.p)].map((cell) => h("td", { class: "number" }, cell))));
  byId("pair-details").replaceChildren(
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Differences by group, scrollable" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ["Group", "Questions", "A", "B", "B − A", "p (of groups, adjusted by Holm)"].map((name, i) => h("th", { scope: "col", class: i ? "number" : "" }, name)))), h("tbody", {}, rows))),
    h("ul", {}, (compared?.notes ?? []).map((note) => h("li", {}, note))));
}

function clearPair() {
  pair.side = "";
  drawPair();
}

/** Take the pair from the address, where it names one that is here. */
function readPair(written) {
  if (!data.pairs.length) return;
  const [a, b, task, side] = (written || "").split(",");
  const before = { ...pair };
  Object.assign(pair, { a: Number(a), b: Number(b), task: Number(task), side });
  if (!["a", "b"].includes(side) || !comparison()) Object.assign(pair, before, { side: "" });
  for (const name of ["a", "b", "task"]) byId(`pair-${name}`).value = pair[name];
  drawPair();
}

function setUpPairs() {
  if (!data.pairs.length) return;
  byId("pairs").hidden = false;
  ({ a: pair.a, b: pair.b, task: pair.task } = data.pairs[0]);
  const used = [...new Set(data.pairs.flatMap((one) => [one.a, one.b]))].sort((x, y) => x - y);
  const tasks = [...new Set(data.pairs.map((one) => one.task))];
  for (const side of ["a", "b"]) byId(`pair-${side}`).append(...used.map((system) => h("option", { value: system }, data.systems[system].label)));
  byId("pair-task").append(...tasks.map((task) => h("option", { value: task }, data.tasks[task])));
  byId("pair-task").parentElement.hidden = tasks.length < 2;
  const fields = { a: byId("pair-a"), b: byId("pair-b"), task: byId("pair-task") };
  const show = () => {
    for (const [name, field] of Object.entries(fields)) field.value = pair[name];
    drawPair();
    if (!compared) clearPair();
    applyFilters();
  };
  for (const [name, field] of Object.entries(fields)) onEdit(field, () => { pair[name] = Number(field.value); show(); });
  byId("pair-swap").addEventListener("click", () => {
    [pair.a, pair.b] = [pair.b, pair.a];
    pair.side = { a: "b", b: "a" }[pair.side] ?? "";
    show();
  });
  for (const side of ["a", "b"]) {
    byId(`pair-${side}-alone`).addEventListener("click", () => { pair.side = pair.side === side ? "" : side; show(); });
  }
  show();
}
