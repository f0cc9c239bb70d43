// One question with its answers, as an article.

const GRADES = ["good", "so-so", "bad"];

// Empty: with thousands of them, only those that come near the window are filled.
function cardOf(row, number) {
  const card = made("article", { className: "card", tabIndex: -1, id: `row-${row.id}` });
  card.setAttribute("aria-label", `Answer ${number}`);
  return card;
}

function fill(card, row, number, grade, { flags, names }) {
  card.append(
    made(
      "header",
      {},
      made("span", { className: "number" }, `${number}`),
      ...groupsOf(row, names),
      whereOf(row)
    ),
    made("p", { className: "instruction", dir: "auto" }, row.instruction)
  );
  if (row.input) card.append(made("p", { className: "input", dir: "auto" }, row.input));
  card.append(textsOf(row, flags), gradingOf(row, number));
  show(card, grade);
}

function groupsOf(row, names) {
  return Object.entries(row.groups)
    .filter(([, name]) => name !== "no")
    .map(([key, name]) => (Object.hasOwn(names[key] ?? {}, name) ? names[key][name] : name))
    .map((name) => made("span", { className: "group" }, name));
}

function whereOf(row) {
  const where = row.where || "";
  const short = where.split(/[\\/]/).pop();
  return made("span", { className: "where", title: where }, short);
}

function textsOf(row, flags) {
  const texts = made("div", { className: "texts" });
  const hasReference = row.output !== null;
  const reference = hasReference ? piecesOf(row.output) : [];
  const side = (name, label, answer) => {
    if (!answer) return null;
    const pieces = piecesOf(answer.text);
    const [mine, theirs] = hasReference ? differing(pieces, reference) : [[], []];
    const text = made("div", { className: "text", dir: "auto" }, marked(pieces, mine, "extra"));
    if (!answer.text.trim()) text.append(made("i", {}, "(no text)"));
    const head = made("h3", {}, label);
    if (answer.right) head.append(made("span", { className: "chip right" }, "exact match"));
    for (const flag of answer.flags)
      head.append(made("span", { className: "chip flag", title: flags[flag] }, flag));
    const told = [`${answer.words} ${answer.words === 1 ? "word" : "words"}`];
    if (answer.f1 !== undefined)
      told.unshift(`F1 ${answer.f1.toFixed(2)}`, `ROUGE-L ${answer.rougeL.toFixed(2)}`);
    const foot = made("p", { className: "told" }, told.join(" · "));
    return [made("section", { className: name }, head, text, foot), theirs];
  };
  const tuned = side("tuned", "Tuned", row.tuned);
  const base = side("base", "Base", row.base);
  if (hasReference) {
    const text = marked(reference, tuned[1], "missing");
    texts.append(
      made(
        "section",
        { className: "reference" },
        made("h3", {}, "Reference"),
        made("div", { className: "text", dir: "auto" }, text)
      )
    );
  }
  texts.append(tuned[0]);
  if (base) texts.append(base[0]);
  return texts;
}

function gradingOf(row, number) {
  const buttons = GRADES.map((grade) => {
    const button = made("button", { type: "button", className: `grade ${grade}` }, grade);
    button.dataset.grade = grade;
    button.setAttribute("aria-pressed", "false");
    return button;
  });
  const note = made("textarea", { rows: 1, placeholder: "Note", className: "remark" });
  note.setAttribute("aria-label", `Note on answer ${number}`);
  const group = made("div", { className: "grades", role: "group" }, ...buttons);
  group.setAttribute("aria-label", `Grade of answer ${number}`);
  return made("footer", {}, group, note);
}

// What a card says of its grade; its note is left alone while somebody writes in it.
function show(card, { grade, note }) {
  card.dataset.grade = grade || "";
  for (const button of card.querySelectorAll("button.grade"))
    button.setAttribute("aria-pressed", String(button.dataset.grade === grade));
  const field = card.querySelector(".remark");
  if (field !== document.activeElement) field.value = note || "";
  card.classList.toggle("noted", Boolean(note));
}
