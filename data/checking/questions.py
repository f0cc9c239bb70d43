"""Whether a record that asks for a fact has the right answer, in the form that was asked for."""

import re

from data.checking.facts import answer_of, has_one_subject
from data.checking.sentences import TEMPLATES, fits, is_plain_sentence
from data.checking.wordings import asked, fits_fact, parts_of


def problem(record: dict) -> str | None:
    """What is wrong with a record that names its fact, or None."""
    relation, subject, parts = parts_of(record["fact"])
    wording, output = record["wording"], record["output"]
    answer = answer_of(relation, subject, parts)
    if answer is None:
        return f"there is no {record['fact']}"
    back = re.search(r"\{(a|an|do)\}", wording) is not None
    turned = _direction_problem(relation, wording, back)
    if turned:
        return turned
    if "{gap}" in wording:
        before, after = map(re.escape, wording.split("{gap}"))
        gap = re.fullmatch(f"{before}(.+){after}", asked(record))
        if not gap or not any(
            fits(template, f"{gap[1]} {answer}", subject, answer, parts)
            for template in TEMPLATES[relation]
        ):
            return f"no sentence that only {answer} ends"
    elif not fits_fact(record, subject, answer, parts):
        return f"this does not ask of {subject} what its wording asks: {wording}"
    if re.search(r"\b(full|whole) sentence\b", wording):
        if is_plain_sentence(relation, subject, answer, parts, output):
            return None
        return f"not the plain sentence for {subject} and {answer}: {output}"
    if back and not has_one_subject(relation, subject, parts):
        return f"{answer} is the answer for others than {subject}"
    expected = subject if back else answer
    return None if output == expected else f"{expected} is right, not {output}"


def asks_for(relation: str, question: str) -> bool:
    """Whether a question has the words that one for this relation cannot do without."""
    return re.search(_ASKS_FOR[relation], question, re.IGNORECASE) is not None


def _direction_problem(relation: str, wording: str, back: bool) -> str | None:
    """A wording that lacks its keyword, denies, or asks for what comes before and not after."""
    if "{gap}" not in wording and not asks_for(relation, wording):
        return f"this does not ask for the {relation}: {wording}"
    if re.search(r"\b(not|no|never|nothing|except|without|unlike|other than)\b", wording):
        return f"this asks for what is not so: {wording}"
    if relation.startswith("next_") and "{gap}" not in wording:
        before = re.search(r"\b(before|yesterday)\b", wording) is not None
        if before is not back:
            return f"this asks in the other direction: {wording}"
    return None


# What a question for it cannot do without.
_ASKS_FOR = {
    "capital": r"\bcapital\b",
    "continent": r"\bcontinent\b|\.\.\.$",
    "language": r"\b(language|speak)\b",
    "currency": r"\b(currency|money)\b",
    "nationality": r"\b(nationality|(person|people) from|person (come|who)|a person)\b",
    "river": r"\briver\b",
    "sight": r"\b(city|where|stands in|is in)\b",
    "dish": r"\b(country|where|home|comes from)\b",
    "class": r"\b(kind|class)\b|\b(is|are) an? \.\.\.",
    "young": r"\b(young|baby|be when it is big)\b",
    "sound": r"\b(sound|hear|can)\b",
    "home": r"\b(home|live|place|where)\b",
    "food": r"\b(eats?|food|lives? on|hungry)\b",
    "group": r"\b(group|together)\b",
    "legs": r"\blegs\b",
    "colour": r"\bcolour\b|\b(is|are) \.\.\.",
    "material": r"\b(material|made of|make)\b",
    "source": r"\b(made from|make|made)\b",
    "giver": r"\banimal\b|\bcomes? from an? \.\.\.",
    "kind": r"\b(kind|sort|group)\b|\b(is|are) an? \.\.\.",
    "family": r"\b(family|instrument)\b",
    "count": r"\b(how many|number|has|have)\b",
    "job": r"\b(does|do|person|work|name of the job|who|become)\b|\.\.\.$",
    "tool": r"\b(tool|works? with|uses?|need)\b",
    "workplace": r"\b(works?|workplace|where|find)\b",
    "maker": r"\b(author|painter|composer|who|whom|by)\b",
    "homeland": r"\b(country|where|born|came from)\b",
    "next_month": r"\b(after|before|begins|follows)\b",
    "month_place": r"\b(place|months?)\b",
    "month_days": r"\bdays\b",
    "season": r"\bseason|\b(is in|it is|belongs to) \.\.\.",
    "next_day": r"\b(after|before|tomorrow|yesterday|follows)\b",
    "next_letter": r"\b(after|before|follows)\b",
    "number_word": r"\b(words?|figures|which number)\b",
    "roman": r"\bRoman",
    "unit": r"\b(how many|number|has|what is)\b",
    "measure": r"\bmeasur",
    "symbol": r"\b(symbol|chemists|chemistry)\b",
    "state": r"\b(warm room|twenty degrees)\b",
    "planet_place": r"\bplanets?\b|\bfrom the Sun\b",
    "sense": r"\b(part of the body|with)\b",
    "opposite": r"\bopposite\b",
    "synonym": r"\b(word|means?) ",
    "american": r"\b(American|Americans|British)\b",
    "contraction": r"\b(short|fast|often say|long form)\b",
    "plural": r"\b(plural|more than one|but two)\b",
    "past": r"\b(past|yesterday)\b",
    "comparative": r"\b(comparative|more than|compares)\b",
    "superlative": r"\b(superlative|above all|of all)\b",
    "spelling": r"\b(spell|spelled|spelling|letter by letter)\b",
    "letters": r"\bletters\b",
}
