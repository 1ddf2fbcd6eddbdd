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
  const graded = q.responses.filter((response) => response.state !== "neither");
  q.right = graded.filter((response) => response.state === "right").length;
  q.share = graded.length ? q.right / graded.length : null; // of responses that are right: how easy it is
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
let order = "given"; // else "hardest" or "easiest"
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
  if (!passesPair(q)) return false;
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
  if (order !== "given") {
    const sign = order === "hardest" ? 1 : -1;
    shownQuestions.sort((a, b) => (a.share === null) - (b.share === null) || sign * (a.share - b.share));
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

// With few systems, asked once each, a question's glyphs stand below the marks of its models.
const SLOTS = data.systems.length <= 8 && questions.every((q) => new Set(q.responses.map((r) => r.system)).size === q.responses.length);

function summaryOf(q) {
  const graded = q.responses.filter((response) => response.state !== "neither").length;
  const share = h("span", { class: "share" }, graded ? `${q.right}/${graded}` : "–");
  if (!SLOTS) return [share];
  return [share, ...data.systems.map((system, index) => {
    const response = q.responses.find((one) => one.system === index);
    return h("span", { class: "slot" }, response ? glyph(response.state, `${system.label}: ${response.state}`) : null);
  })];
}

/** The heads of the list, which sort it: by benchmark and video, or by how many responses are right. */
function drawHeads() {
  const sort = (name) => { order = name; drawHeads(); applyFilters(); };
  const next = order === "hardest" ? "easiest" : "hardest";
  const focused = document.activeElement?.id;
  byId("question-heads").replaceChildren(
    h("button", { type: "button", id: "sort-given", "aria-pressed": String(order === "given"), title: "In the order of the benchmark", click: () => sort("given") }, `Question${order === "given" ? " ↓" : ""}`),
    h("span", { class: "marks" },
      h("button", { type: "button", id: "sort-difficulty", "aria-pressed": String(order !== "given"), title: `Sort: ${next} first`, click: () => sort(next) },
        `Right${order === "given" ? " ↕" : order === "hardest" ? " ↑ hardest" : " ↓ easiest"}`),
      SLOTS && h("span", { role: "img", "aria-label": data.systems.map((system) => system.label).join(", "), title: data.systems.map((system) => system.label).join(", ") }, data.systems.map((system) => mark(system.model)))));
  if (focused?.startsWith("sort-")) byId(focused).focus();
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
