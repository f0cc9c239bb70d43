"""A relation between a thing and what is told of it, and all the ways in which people say it.

`capital` holds between Japan and Tokyo. Its voices are templates: clauses that state the fact,
questions after the answer, and, where the answer belongs to one thing only, questions back. They
are written in lower case and without a full stop, so that they can stand in any sentence.

    {s}    the subject, Japan, cow           {a}    the answer, Tokyo, calf
    {one}  with its article, a cow           {an}   as it stands in a sentence, a calf, the yen
    {many} in the plural, cows               {as}   in the plural, calves
    {all}  cows, or snow; {are} goes with it {key}  what the answer is: the capital of Japan
    {i}    the first letter of the answer
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    name: str
    theme: str  # what a lesson on it is about
    topic: str  # what kind of thing its subjects are
    key: str  # a noun phrase: {key} is {an}
    says: tuple[str, ...]  # each names subject and answer; the first is the answer in a sentence
    asks: tuple[str, ...]
    its: tuple[str, ...] = ()  # clauses for a text in which the subject was named just before
    an: str = "{a}"
    bare: str = "{an}"  # the answer said alone, in a talk
    back_asks: tuple[str, ...] = ()  # for the subject; empty where several have this answer
    back_key: str = ""
    back: str = "{one}"  # the subject said alone
    equals: bool = True  # whether "{key} is {an}" and "{an} is {key}" are English


def relation(
    name: str,
    theme: str,
    topic: str,
    key: str,
    says: str,
    asks: str,
    its: str = "",
    back_asks: str = "",
    **more: object,
) -> Relation:
    """A relation whose lists are written as lines."""
    lists = (_lines(text) for text in (says, asks, its, back_asks))
    says_, asks_, its_, back_asks_ = lists
    return Relation(name, theme, topic, key, says_, asks_, its_, back_asks=back_asks_, **more)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())
