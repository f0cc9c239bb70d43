// The grades: those in this browser, over those that came with the page; out to a file and in again.

const data = JSON.parse(document.getElementById("data").textContent);
const KEY = `talimat-grades-${data.set}`;
const at = (id) => document.getElementById(id);

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
