"""Whether an answer of several sentences is true: each sentence is held against the tables.

Descriptions, lists, comparisons, letters, riddles and dialogues may say only what a template of
sentences.py says of the thing that was asked for; a story tells one of the plots, and an
explanation one of the pages, of which its request speaks.
"""

import re
from collections.abc import Callable, Iterator

from data.checking.facts import number_in_words
from data.checking.questions import asks_for
from data.checking.sentences import all_subjects, fact_told, with_article
from data.checking.wordings import fields_of
from data.corpus.people import BOYS, GIRLS
from data.world.plots import PLOTS
from data.world.reasons import HOW_TO, WHY


def problem(record: dict) -> str | None:
    """What is wrong with an open record, or None."""
    fields = fields_of(record)
    if fields is None:
        return f"this is not what its wording asks: {record['wording']}"
    return next(_BY_CATEGORY[record["category"]](fields, record["output"]), None)


def sentences_of(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)


def subject_of(name: str) -> str:
    return all_subjects()[name]


def _number_is_right(fields: dict[str, str], n: int) -> Iterator[str]:
    if n < 2:
        yield "an open answer of one sentence"
    if "n" in fields and fields["n"] != number_in_words(str(n)):
        yield f"{fields['n']} are asked for, not {n}"


def _told(sentences: list[str], subject: str) -> Iterator[str]:
    """Faults of sentences about one thing: each tells another fact of it, and "it" is clear."""
    relations, clear = [], False
    for sentence in sentences:
        relation = fact_told(sentence.removesuffix("."), subject)
        if relation is None or not sentence.endswith("."):
            yield f"the tables do not say of {subject}: {sentence}"
        relations.append(relation)
        begins = sentence.split()[0]
        if not clear and begins in ("It", "They"):
            yield f"whom does this mean? {sentence}"
        named = re.match(rf"((An?|The) )?{re.escape(_cap(subject))}\b", _cap(sentence), re.I)
        clear = bool(named) or re.match(r"(In .*)?\b(it|they)\b", sentence, re.I) is not None
    if len(set(relations)) < len(relations):
        yield "a fact is told twice"


def _cap(text: str) -> str:
    return text[0].upper() + text[1:]


def _description(fields: dict[str, str], output: str) -> Iterator[str]:
    sentences = sentences_of(output)
    yield from _number_is_right(fields, len(sentences))
    yield from _told(sentences, subject_of(fields["x"]))


def _list(fields: dict[str, str], output: str) -> Iterator[str]:
    lines = output.splitlines()
    yield from _number_is_right(fields, len(lines))
    for i, line in enumerate(lines, 1):
        number, _, sentence = line.partition(". ")
        if number != str(i):
            yield f"{number} stands where {i} belongs"
        yield from _told([sentence], subject_of(fields["x"]))
    if len({line.partition(". ")[2] for line in lines}) < len(lines):
        yield "a fact is listed twice"


def _comparison(fields: dict[str, str], output: str) -> Iterator[str]:
    one, other = subject_of(fields["x"]), subject_of(fields["y"])
    sentences = sentences_of(output)
    yield from _number_is_right(fields, len(sentences))
    for sentence in sentences:
        first, _, second = sentence.removesuffix(".").partition(", but ")
        told = fact_told(first, one), fact_told(second, other)
        if None in told or told[0] != told[1]:
            yield f"the tables do not say of {one} and {other}: {sentence}"


def _letter(fields: dict[str, str], output: str) -> Iterator[str]:
    parts = re.fullmatch(
        r"Dear (\w+),\n\nToday we learned about ([^.]+) at school\. (.+)\n\nYour friend,\n(\w+)",
        output,
    )
    if parts is None or (parts[1], parts[2], parts[4]) != (fields["q"], fields["x"], fields["p"]):
        yield f"no letter from {fields['p']} to {fields['q']} about {fields['x']}"
        return
    yield from _told(sentences_of(parts[3]), subject_of(fields["x"]))


def _riddle(fields: dict[str, str], output: str) -> Iterator[str]:
    one = fields["x"]
    subject = subject_of(one)
    kind = "country" if subject[0].isupper() or subject.startswith("the ") else "animal"
    begin, end = f"I am thinking of {with_article(kind)}. ", f" What is it? It is {one}."
    if not (output.startswith(begin) and output.endswith(end)):
        yield f"no riddle about {one}"
        return
    hints = sentences_of(output[len(begin) : -len(end)])
    for hint in hints:
        if fact_told(hint.removesuffix("."), subject) is None:
            yield f"the tables do not say of {subject}: {hint}"
        if re.search(rf"\b{re.escape(subject)}\b", hint):
            yield f"the hint names {subject}: {hint}"


def _dialogue(fields: dict[str, str], output: str) -> Iterator[str]:
    lines = output.splitlines()
    subject = subject_of(fields["x"])
    asker, replier = fields["p"], fields["q"]
    if len(lines) < 4 or len(lines) % 2:
        yield "a dialogue has questions and answers"
    for question, answer in zip(lines[::2], lines[1::2], strict=False):
        if not (question.startswith(f"{asker}: ") and answer.startswith(f"{replier}: ")):
            yield f"{asker} asks and {replier} answers"
        relation = fact_told(answer.partition(": ")[2].removesuffix("."), subject)
        if relation is None or not answer.endswith("."):
            yield f"the tables do not say of {subject}: {answer}"
        elif not asks_for(relation, question.partition(": ")[2]):
            yield f"this does not ask for the {relation}: {question}"


def _explanation(fields: dict[str, str], output: str) -> Iterator[str]:
    pages = {what: " ".join(told) for what, told in (*HOW_TO, *WHY)}
    if pages.get(fields["x"].replace("my ", "your ")) != output:
        yield f"this is not what the world says of: {fields['x']}"


def _story(fields: dict[str, str], output: str) -> Iterator[str]:
    name = fields["p"]
    child = "girl" if name in GIRLS else "boy"
    if fields.get("child", child) != child:
        yield f"{name} is a {child}"
    begin = f"Once upon a time there was a {child} called {name}. "
    told = output.removeprefix(begin)
    plots = [
        _pattern_of_plot(sentences, name, friend)
        for about, sentences in PLOTS
        if _cast(about, name, name) == fields["about"]
        for friend in (*GIRLS, *BOYS)
        if friend != name
    ]
    if told == output or not any(re.fullmatch(plot, told) for plot in plots):
        yield f"this is no story of {name} {fields['about']}"


def _pattern_of_plot(sentences: tuple[tuple[str, ...], ...], name: str, friend: str) -> str:
    return " ".join(
        "(?:" + "|".join(re.escape(_cast(wording, name, friend)) for wording in wordings) + ")"
        for wordings in sentences
    )


def _cast(template: str, name: str, friend: str) -> str:
    he, him, his = ("she", "her", "her") if name in GIRLS else ("he", "him", "his")
    qhe, qhim = ("she", "her") if friend in GIRLS else ("he", "him")
    return template.format(
        p=name, q=friend, he=he, him=him, his=his, He=_cap(he), qhe=qhe, qhim=qhim
    )


_BY_CATEGORY: dict[str, Callable[[dict[str, str], str], Iterator[str]]] = {
    "describing animals": _description,
    "describing countries": _description,
    "describing jobs and things": _description,
    "lists of facts": _list,
    "comparisons": _comparison,
    "letters to friends": _letter,
    "riddles": _riddle,
    "dialogues": _dialogue,
    "explanations": _explanation,
    "stories": _story,
}
