"""Instructions that ask for a fact: in many wordings, and from both ends where that has one answer.

The wording decides the form of the answer, always in the same way: who asks for a full sentence
gets the plain sentence of the relation; everybody else gets the answer alone, without an article.
"""

from functools import cache
from typing import NamedTuple

from data.corpus.lessons import beginning
from data.corpus.speech import REQUESTS, cap, may_be_asked_for
from data.dice import Dice
from data.tasks.categories import CATEGORY_OF
from data.tasks.record import Task, plain
from data.world.facts import BY_RELATION, HELD_OUT, Fact

SHORT, SENTENCE, BACK = "short", "sentence", "back"
# "A sheep is a ..." has many right ends, and so has "Iron is a ...": no gap there. Where France and
# the Louvre are, "The continent of France is ..." asks clearly enough.
_NO_GAP = ("class", "kind", "job", "nationality", "state")
# "The work of a baker" is to bake bread, and not "bakes bread": it is not asked for by that name.
_NO_KEY = ("job",)
_GAP_BY_KEY = ("continent", "sight")


class Wording(NamedTuple):
    """{q} is a question of the relation's own, {k} what is asked for, {gap} a sentence cut short.

    Number n of the questions is meant by {q0}, {q1} and so on; {Q0} begins with a capital.
    """

    instruction: str
    input: str
    form: str
    unseen: bool = False  # only validation and test have it


_KEPT = ("Please tell me {k}.", "I would like to hear {k}.", "Can you tell me {k}?")
_SHORT = (
    *(Wording(request, "", SHORT, request in _KEPT) for request in REQUESTS[:-1]),
    Wording("Give a short answer: {q0}", "", SHORT),
    Wording("{Q1} Just the answer, please.", "", SHORT),
    Wording("Answer the question.", "{Q0}", SHORT),
    Wording("Give a short answer to this question.", "{Q1}", SHORT),
    Wording("Complete the sentence.", "{gap} ...", SHORT),
    Wording("Fill the gap.", "{gap} ...", SHORT),
)
_SENTENCE = (
    Wording("Answer in a full sentence: {q0}", "", SENTENCE),
    Wording("{Q1} Answer in a full sentence.", "", SENTENCE),
    Wording("{Q0} Please answer in a whole sentence.", "", SENTENCE),
    Wording("Answer the question in a full sentence.", "{Q0}", SENTENCE),
    Wording("In a full sentence, {q1}", "", SENTENCE, unseen=True),
)
_BACK = (
    Wording("What is {bk}?", "", BACK),
    Wording("Name {bk}.", "", BACK),
    Wording("Tell me {bk}.", "", BACK),
    Wording("Give a short answer: {b0}", "", BACK),
    Wording("{B0}", "", BACK),
    Wording("{B1}", "", BACK),
    Wording("Answer the question.", "{B0}", BACK),
    Wording("Please tell me {bk}.", "", BACK, unseen=True),
)


def wordings_of(fact: Fact) -> list[Wording]:
    """All that fit. Of the relation's own questions the last is kept for validation and test."""
    last = len(fact.asks) - 1
    own = [Wording(f"{{Q{i}}}", "", SHORT, unseen=i == last) for i in range(last + 1)]
    wordings = [*own, *_SHORT, *_SENTENCE]
    if fact.back_asks:
        wordings += _BACK
    fields = _fields(fact)
    return [
        w
        for w in wordings
        if all(_has(part, fields) for part in (w.instruction, w.input))
        and all(may_be_asked_for(w.instruction, fields[k]) for k in ("k", "bk"))
    ]


def _has(template: str, fields: dict[str, str]) -> bool:
    return all(fields.get(name) for name in _names(template))


def _names(template: str) -> list[str]:
    return [part.split("}")[0] for part in template.split("{")[1:]]


def _gap(fact: Fact) -> str:
    """The beginning of a sentence that only the answer can end; empty where there is none."""
    if fact.relation.name in _NO_GAP:
        return ""
    if fact.relation.name in _GAP_BY_KEY:
        return f"{cap(fact.key)} is"
    return beginning(fact) or ""


def _fields(fact: Fact) -> dict[str, str]:
    key = "" if fact.relation.name in _NO_KEY else fact.key
    fields = {"k": key, "gap": _gap(fact), "bk": ""}
    for i, question in enumerate(fact.asks):
        fields |= {f"q{i}": question, f"Q{i}": cap(question)}
    if fact.back_asks:
        fields["bk"] = fact.back_key
    for i, question in enumerate(fact.back_asks):
        fields |= {f"b{i}": question, f"B{i}": cap(question)}
    return fields


def ask(fact: Fact, wording: Wording) -> Task:
    fields = _fields(fact)
    if wording.form == SENTENCE:
        output = f"{cap(fact.says[0])}."
    else:
        output = fact.subject if wording.form == BACK else fact.answer
    instruction, given = (t.format_map(fields) for t in (wording.instruction, wording.input))
    questions = [
        n for n in _names(wording.instruction + wording.input) if n[0] in "qQbB" and n[1:] != "k"
    ]
    question = fields[questions[0]] if questions else f"{instruction} {given}"
    return Task(
        instruction=instruction,
        input=given,
        output=output,
        category=CATEGORY_OF[fact.relation.theme],
        wording=_name(fact, wording),
        closed=True,
        fact=fact.id,
        held_out=fact.id in HELD_OUT,
        content=f"{fact.id} {wording.form} {plain(question)}",
    )


def _name(fact: Fact, wording: Wording) -> str:
    """The template as one would write it for this relation: "Name the capital of {s}."."""
    relation = fact.relation
    fields = {"k": relation.key, "bk": relation.back_key, "gap": "{gap}"}
    for i, question in enumerate(relation.asks):
        fields |= {f"q{i}": question, f"Q{i}": cap(question)}
    for i, question in enumerate(relation.back_asks):
        fields |= {f"b{i}": question, f"B{i}": cap(question)}
    return f"{wording.instruction} {wording.input}".strip().format_map(fields)


@cache
def all_wordings(relation: str) -> frozenset[str]:
    """The names of all wordings in which a relation's facts are asked for."""
    return frozenset(_name(f, w) for f in BY_RELATION[relation] for w in wordings_of(f))


def draw(dice: Dice, fact: Fact, n: int, unseen: bool | None) -> list[Task]:
    """n tasks about a fact in different wordings: mostly short ones, some of each other form.

    unseen: False for training; True for only such wordings as training has not; None for any.
    """
    fitting = [w for w in wordings_of(fact) if unseen is None or w.unseen == unseen]
    drawn: list[Wording] = []
    while fitting and len(drawn) < n:
        luck = dice.random()
        form = SHORT if luck < 0.66 else SENTENCE if luck < 0.84 else BACK
        of_form = [w for w in fitting if w.form == form] or fitting
        wording = dice.pick(of_form)
        fitting.remove(wording)
        drawn.append(wording)
    return [ask(fact, wording) for wording in drawn]
