// The list of answers: which are shown, in what order, and where the reader is.

const BESIDE = 4; // cards that are seen on either side of the one that is gone to
const CHUNK = 12; // cards that are laid out together, or not at all
const EACH = 18; // rem: about the height of a card with its margin
const [list, search, sort] = [at("list"), at("search"), at("sort")];
const filters = [...at("filters").querySelectorAll("select")];
data.rows.forEach((row, place) => {
  row.place = place;
  row.card = cardOf(row, place + 1);
});
const rowOf = new Map(data.rows.map((row) => [row.card, row]));

let shown = []; // rows, in order
let here = -1; // the place in shown of the one that keys are for

// Without case and accents: Turkish "İ" and "I" are found by "i".
function fold(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replaceAll("ı", "i");
}

function textOf(row) {
  const texts = [row.instruction, row.input, row.output, row.tuned.text, row.base?.text];
  return (row.folded ??= fold(texts.filter((text) => text).join("\n")));
}

// ---- which answers, in what order

const TESTS = {
  flag: (row, value) =>
    value === "any" || value === "none"
      ? row.tuned.flags.length > 0 === (value === "any")
      : row.tuned.flags.includes(value),
  outcome: (row, value) =>
    row.tuned.right !== undefined &&
    (value === "right" || value === "wrong"
      ? row.tuned.right === (value === "right")
      : value === "ahead" ? gain(row) > 0 : gain(row) < 0),
  grade: (row, value) => {
    const { grade, note } = gradeOf(row);
    if (value === "noted") return Boolean(note);
    return value === "graded" || value === "ungraded"
      ? Boolean(grade) === (value === "graded")
      : grade === value;
  },
};
const gain = (row) =>
  row.base && row.tuned.f1 !== undefined ? row.tuned.f1 - row.base.f1 : NaN;
const VALUES = {
  file: (row) => row.place,
  f1: (row) => row.tuned.f1 ?? NaN,
  gain,
  words: (row) => row.tuned.words,
  grade: (row) => (gradeOf(row).grade ? -GRADES.indexOf(gradeOf(row).grade) : NaN),
};

function passes(row) {
  return filters.every(({ id, value }) => {
    if (!value) return true;
    return id.startsWith("by-") ? row.groups[id.slice(3)] === value : TESTS[id](row, value);
  });
}

function refresh() {
  const asked = fold(search.value.trim()).split(/\s+/);
  const sign = sort.value.startsWith("-") ? -1 : 1;
  const value = VALUES[sort.value.replace("-", "")];
  const values = new Map(data.rows.map((row) => [row, sign * value(row)]));
  const last = (x) => (Number.isNaN(x) ? Infinity : x); // what has no value comes last
  const order = (x, y) => (x === y ? 0 : x - y);
  const found = data.rows
    .filter((row) => passes(row) && asked.every((word) => textOf(row).includes(word)))
    .sort((a, b) => order(last(values.get(a)), last(values.get(b))) || a.place - b.place);
  cardAt(here)?.classList.remove("here");
  cardAt(here)?.removeAttribute("aria-current");
  shown = found;
  shown.forEach((row, i) => (row.at = i));
  here = -1;
  nearing.disconnect();
  list.replaceChildren(...chunksOf(shown));
  for (const chunk of list.children) nearing.observe(chunk);
  const n = data.rows.length;
  at("count").textContent = shown.length === n ? `${n} answers` : `${shown.length} of ${n}`;
  at("clear").hidden = !search.value && filters.every((filter) => !filter.value);
  at("end").textContent = shown.length || !n ? "" : "No answer is like that.";
  countGrades();
}

const cardAt = (place) => shown[place]?.card;

function chunksOf(rows) {
  const chunks = [];
  for (let i = 0; i < rows.length; i += CHUNK) {
    const cards = rows.slice(i, i + CHUNK).map((row) => row.card);
    const chunk = made("div", { className: "chunk" }, ...cards);
    chunk.style.containIntrinsicHeight = `auto ${cards.length * EACH}rem`;
    chunks.push(chunk);
  }
  return chunks;
}

function fillIn(row) {
  if (!row.card.firstChild) fill(row.card, row, row.place + 1, gradeOf(row), data);
}

// Whole chunks: a card that is filled later, above the one that is read, would push it down.
function fillAround(place) {
  const first = Math.max(0, Math.floor((place - BESIDE) / CHUNK) * CHUNK);
  const end = (Math.floor((place + BESIDE) / CHUNK) + 1) * CHUNK;
  shown.slice(first, end).forEach(fillIn);
}
const nearing = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) for (const card of target.children) fillIn(rowOf.get(card));
  },
  { rootMargin: "1500px" }
);

function filterBy(id, value) {
  filters.forEach((filter) => (filter.value = filter.id === id ? value : ""));
  search.value = "";
  refresh();
  at("answers").scrollIntoView();
}

// ---- where the reader is

function goTo(place, scroll = true) {
  if (place < 0 || place >= shown.length) return;
  fillAround(place);
  cardAt(here)?.classList.remove("here");
  cardAt(here)?.removeAttribute("aria-current");
  here = place;
  const card = cardAt(here);
  card.classList.add("here");
  card.setAttribute("aria-current", "true");
  if (!scroll) return;
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: card.offsetHeight > innerHeight * 0.7 ? "start" : "center" });
}

function grade(name) {
  if (here < 0) return goTo(0);
  const row = shown[here];
  const isSame = gradeOf(row).grade === name;
  setGrade(row, { grade: isSame ? null : name });
  if (at("onward").checked && !isSame) goTo(here + 1);
}

// An arrow reads on in an answer that is longer than the window, as arrows do.
function step(by, isArrow) {
  const box = cardAt(here)?.getBoundingClientRect();
  if (isArrow && box && (by > 0 ? box.bottom > innerHeight : box.top < 0)) return false;
  goTo(here < 0 ? 0 : here + by);
  return true;
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1, true),
  ArrowUp: () => step(-1, true),
  u: () => {
    const isBare = (row) => !gradeOf(row).grade;
    const next = shown.findIndex((row, i) => i > here && isBare(row));
    const place = next < 0 ? shown.findIndex(isBare) : next;
    if (place >= 0) goTo(place);
    else if (shown.length) at("graded").textContent = "all that are shown are graded";
  },
  n: () => {
    if (here < 0) goTo(0);
    cardAt(here)?.querySelector(".remark").focus();
  },
  d: () => document.body.classList.toggle("unmarked"),
  "/": () => (search.focus(), search.select()),
  "?": () => at("keys").showModal(),
};
GRADES.forEach((name, i) => (KEYS[i + 1] = KEYS[name[0]] = () => grade(name)));

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && field) {
    field.blur();
    if (here >= 0) goTo(here);
    return;
  }
  if (field || event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action && action() !== false) event.preventDefault();
});

const placeOf = (element) => rowOf.get(element.closest(".card")).at;

list.addEventListener("click", (event) => {
  if (!event.target.closest(".card")) return;
  const place = placeOf(event.target);
  goTo(place, false);
  const button = event.target.closest("button.grade");
  if (!button) return;
  const was = gradeOf(shown[place]).grade;
  setGrade(shown[place], { grade: was === button.dataset.grade ? null : button.dataset.grade });
});
list.addEventListener("focusin", (event) => {
  if (event.target.matches(".remark, button")) goTo(placeOf(event.target), false);
});
list.addEventListener("input", (event) => {
  setGrade(shown[placeOf(event.target)], { note: event.target.value });
});

let waiting;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, 120);
});
[...filters, sort].forEach((field) => field.addEventListener("change", refresh));
at("clear").addEventListener("click", () => filterBy("", ""));
at("export").addEventListener("click", download);
at("import").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) take(target.files[0]);
  target.value = "";
});
at("help").addEventListener("click", () => at("keys").showModal());
document.querySelector("main").addEventListener("click", ({ target }) => {
  const button = target.closest("[data-group], button[data-flag]");
  if (button?.dataset.group) filterBy(`by-${button.dataset.group}`, button.dataset.value);
  else if (button) filterBy("flag", button.dataset.flag);
});
addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  mine = kept.read(KEY) || {};
  showGrades(data.rows);
});

// ---- long tables show their largest groups, until somebody wants them all

for (const button of document.querySelectorAll("button.more")) {
  const rest = button.previousElementSibling.querySelector(".rest");
  const all = button.textContent;
  const fold = (isFolded) => {
    rest.hidden = isFolded;
    button.textContent = isFolded ? all : "Show fewer";
    button.setAttribute("aria-expanded", String(!isFolded));
  };
  button.hidden = false;
  button.addEventListener("click", () => fold(!rest.hidden));
  fold(true);
}

// ---- what is remembered beside the grades

const THEMES = ["auto", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = `Theme: ${theme}`;
  kept.write("talimat-theme", theme);
}
at("theme").addEventListener("click", () => {
  const now = THEMES.indexOf(document.documentElement.dataset.theme);
  setTheme(THEMES[(now + 1) % THEMES.length]);
});
at("onward").addEventListener("change", () => kept.write("talimat-onward", at("onward").checked));

const theme = kept.read("talimat-theme");
setTheme(THEMES.includes(theme) ? theme : "auto");
at("onward").checked = kept.read("talimat-onward") ?? true;
mine = kept.read(KEY) || {};
document.querySelector(".bar").hidden = !data.rows.length;
refresh();
