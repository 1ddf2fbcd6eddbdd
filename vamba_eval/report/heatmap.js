
// ------------------------------------------------------------------------------------------------- models by group

function heatmapBox() {
  const select = h("select", { change: () => { choice.group = select.value; updateHeatmap(); } });
  return h("figure", { id: "figure-breakdown", class: "wide" }, h("h3", {}), h("label", {}, "Group ", select),
    h("div", { class: "scroll heat", tabindex: 0, role: "region", "aria-label": "Scores by group, scrollable" }),
    h("figcaption", {}, "The deeper the color, the higher the score among those shown. Small: 95 % interval, clustered by video; how many questions."));
}

/** Systems by the values of the chosen group, of which the more stand below one another. */
function updateHeatmap() {
  const box = byId("figure-breakdown");
  const groups = groupsOf(choice.task);
  if (!groups.includes(choice.group)) choice.group = groups.find((group) => /duration/.test(group)) || groups[0];
  box.hidden = !groups.length;
  if (!groups.length) return;
  box.querySelector("h3").textContent = `By group${perTask()}`;
  box.querySelector("select").replaceChildren(...groups.map((group) => h("option", { value: group }, group)));
  box.querySelector("select").value = choice.group;
  const results = measured.filter((result) => result.task === choice.task && result.breakdowns[choice.group]);
  const of = (result, value) => result.breakdowns[choice.group][value];
  const order = ["short", "medium", "long"];
  const values = [...new Set(results.flatMap((result) => Object.keys(result.breakdowns[choice.group])))];
  values.sort((a, b) => order.indexOf(a) - order.indexOf(b) || a.localeCompare(b, undefined, { numeric: true }));
  const scores = results.flatMap((result) => values.map((value) => of(result, value)).filter(Boolean).map(([score]) => score * Math.sign(result.best)));
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  const cell = (result, value) => {
    const found = of(result, value);
    if (!found) return h("td", {}, "–");
    const [score, low, high, count] = found;
    const part = most > least ? (score * Math.sign(result.best) - least) / (most - least) : 0;
    const element = h("td", { title: `${result.label}, ${value}: ${count.toLocaleString("en")} questions` },
      shown(score, result.unit), low === null ? null : h("small", {}, `${shown(low, result.unit)} – ${shown(high, result.unit)}`));
    element.style.background = `color-mix(in srgb, var(--accent) ${Math.round(4 + 36 * part)}%, var(--page))`;
    return element;
  };
  const head = (result, scope) => h("th", { scope }, mark(modelOf(result)), result.label);
  const size = (value) => Math.max(...results.map((result) => of(result, value)?.[3] ?? 0)).toLocaleString("en");
  const group = (value, scope) => h("th", { scope }, value, h("small", {}, `${size(value)} questions`));
  const down = values.length > 8; // else models stand below one another
  const heads = down ? results.map((result) => head(result, "col")) : values.map((value) => group(value, "col"));
  const rows = down
    ? values.map((value) => h("tr", {}, group(value, "row"), results.map((result) => cell(result, value))))
    : results.map((result) => h("tr", {}, head(result, "row"), values.map((value) => cell(result, value))));
  box.querySelector(".heat").replaceChildren(h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, down ? choice.group : "Model"), heads)), h("tbody", {}, rows)));
}
