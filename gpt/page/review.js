// The list of answers: which are shown, in what order, where the reader is, and the grades.

const data = JSON.parse(document.getElementById("data").textContent);
const KEY = `talimat-grades-${data.set}`;
const BESIDE = 4; // cards that are filled on either side of the one that is gone to
const at = (id) => document.getElementById(id);
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

// ---- grades: those in this browser, over those that came with the page

const kept = {
  read(key) {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      this.works = false;
      at("unkept").hidden = false;
    }
  },
  works: true,
};
let mine = {};

function gradeOf(row) {
  return mine[row.id] || data.grades[row.id] || { grade: null, note: "" };
}

function setGrade(row, change) {
  if (kept.works) mine = { ...mine, ...kept.read(KEY) }; // another window may have graded, too
  mine[row.id] = { ...gradeOf(row), ...change };
  kept.write(KEY, mine);
  showGrades([row]);
}

function showGrades(rows) {
  for (const row of rows) if (row.card.firstChild) show(row.card, gradeOf(row));
  countGrades();
}

function countGrades() {
  const counts = { good: 0, "so-so": 0, bad: 0 };
  for (const row of data.rows) if (gradeOf(row).grade) counts[gradeOf(row).grade]++;
  const n = counts.good + counts["so-so"] + counts.bad;
  const each = GRADES.map((grade) => `${counts[grade]} ${grade}`).join(", ");
  at("graded").textContent = n ? `${n} of ${data.rows.length} graded: ${each}` : "none graded yet";
}

function exported() {
  const grades = data.rows
    .map((row) => [row, gradeOf(row)])
    .filter(([, { grade, note }]) => grade || note)
    .map(([row, { grade, note }]) => ({
      id: row.id,
      where: row.where,
      instruction: row.instruction,
      grade,
      note,
    }));
  const about = { kind: "talimat-grades", run: data.name, answers: data.set };
  return { ...about, exported: new Date().toISOString(), grades };
}

function download() {
  const file = new Blob([JSON.stringify(exported(), null, 1) + "\n"], { type: "application/json" });
  const link = made("a", { href: URL.createObjectURL(file), download: `${data.name}-grades.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function take(file) {
  try {
    const told = JSON.parse(await file.text());
    if (told.kind !== "talimat-grades") throw new Error("it is no file of grades");
    const known = new Map(data.rows.map((row) => [row.id, row]));
    const good = told.grades.filter(
      ({ id, grade }) => known.has(id) && (grade === null || GRADES.includes(grade))
    );
    for (const { id, grade, note } of good) mine[id] = { grade, note: String(note || "") };
    kept.write(KEY, mine);
    at("end").textContent = `${good.length} grades taken from ${file.name}`;
    showGrades(data.rows);
  } catch (error) {
    alert(`${file.name}: not taken: ${error.message}`);
  }
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
  shown = data.rows
    .filter((row) => passes(row) && asked.every((word) => textOf(row).includes(word)))
    .sort((a, b) => order(last(values.get(a)), last(values.get(b))) || a.place - b.place);
  list.children[here]?.classList.remove("here");
  here = -1;
  list.replaceChildren(...shown.map((row) => row.card));
  const n = data.rows.length;
  at("count").textContent = shown.length === n ? `${n} answers` : `${shown.length} of ${n}`;
  at("clear").hidden = !search.value && filters.every((filter) => !filter.value);
  at("end").textContent = shown.length || !n ? "" : "No answer is like that.";
  countGrades();
}

function fillIn(row) {
  if (!row.card.firstChild) fill(row.card, row, row.place + 1, gradeOf(row), data);
}
const nearing = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) fillIn(rowOf.get(target));
  },
  { rootMargin: "1500px" }
);
data.rows.forEach((row) => nearing.observe(row.card));

function filterBy(id, value) {
  filters.forEach((filter) => (filter.value = filter.id === id ? value : ""));
  search.value = "";
  refresh();
  at("answers").scrollIntoView();
}

// ---- where the reader is

function goTo(place, scroll = true) {
  if (place < 0 || place >= shown.length) return;
  shown.slice(Math.max(0, place - BESIDE), place + BESIDE + 1).forEach(fillIn);
  list.children[here]?.classList.remove("here");
  list.children[here]?.removeAttribute("aria-current");
  here = place;
  const card = list.children[here];
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
  const box = list.children[here]?.getBoundingClientRect();
  if (isArrow && box && (by > 0 ? box.bottom > innerHeight : box.top < 0)) return false;
  goTo(here < 0 ? 0 : here + by);
  return true;
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1, true),
  ArrowUp: () => step(-1, true),
  u: () => goTo(shown.findIndex((row, i) => i > here && !gradeOf(row).grade)),
  n: () => {
    if (here < 0) goTo(0);
    list.children[here]?.querySelector(".remark").focus();
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

const placeOf = (element) => [...list.children].indexOf(element.closest(".card"));

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
