"""How good the answers are: scores, each with its interval, for all of them and by category.

    responses.jsonl ─> score ─> Report ─> a table for the terminal, review.py's page
                       overlap.py  how near each answer is to its reference
                       flags.py    what is plainly wrong with it
                       bootstrap.py  how far a mean of a few hundred can be trusted

The scores go from strict to lenient, and no single one will do. `identical` and `exact_match` are
for questions with one right answer; for open ones they are always 0, and F1 and ROUGE say at least
whether an answer talks of the same things. The base model's scores beside the tuned one's tell what
the tuning did; what other test questions would have said, the intervals; and what neither can, the
answers themselves.

    python -m gpt.metrics       # six answers, scored, flagged and compared; choices, ranked
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpt.answers import AnswersError, beside, groups_of
from gpt.bootstrap import Score
from gpt.cli import run
from gpt.flags import FLAGS
from gpt.likelihood import Likelihood, answer_nats, ranked, score_choices
from gpt.overlap import words
from gpt.records import plain
from gpt.scores import LIKELIHOODS, SCORES, AnswerScore, Part, part_of, score_answer

__all__ = ["FLAGS", "Report", "answer_nats", "as_text", "compare_runs", "comparison_as_text"]
__all__ += ["ranked", "score", "score_choices"]

GROUP_BY = (
    "category",
    "closed",
    "held_out",
)  # keys of a row by whose values answers are scored apart


@dataclass(frozen=True)
class Report:
    overall: Part
    groups: dict[str, list[Part]]  # by category, held_out, …: parts, the largest first
    answers: list[AnswerScore] = field(repr=False)  # one for each row
    base_answers: list[AnswerScore | None] = field(repr=False)

    def to_dict(self) -> dict:
        """For JSON: all but the single answers."""
        groups = {key: [part.to_dict() for part in parts] for key, parts in self.groups.items()}
        return {"overall": self.overall.to_dict(), "groups": groups}


def score(rows: Sequence[dict], group_by: Iterable[str] = GROUP_BY, seed: int = 0) -> Report:
    """Score the rows of responses.jsonl. Those without a base_response are scored without it."""
    if not rows:
        raise AnswersError("there are no answers to score")
    if nameless := sum(row.get("output") is None for row in rows):
        raise AnswersError(f"{nameless:,} of {len(rows):,} rows have no output to compare with")
    answers = [score_answer(row) for row in rows]
    base = [
        score_answer(row, base=True) if row.get("base_response") is not None else None
        for row in rows
    ]
    n_words = np.array([len(words(row["output"])) for row in rows])

    def part(name: str, chosen: Sequence[int]) -> Part:
        mine, theirs = [answers[i] for i in chosen], [base[i] for i in chosen]
        return part_of(name, mine, theirs, float(n_words[chosen].mean()), seed)

    groups = {}
    for key in group_by:
        named = groups_of(rows, key)
        if len(named) > 1:
            groups[key] = [part(name, chosen) for name, chosen in named.items()]
    return Report(part("all", range(len(rows))), groups, answers, base)


def compare_runs(rows: Sequence[dict], others: Sequence[dict], seed: int = 0) -> Report:
    """One run's answers beside another's: the report's `gain` is what the first has more."""
    return score(beside(rows, others), (), seed)


# ---- for a terminal -------------------------------------------------------------------------

LABELS = {name: name.replace("_", " ") for name in (*SCORES, *LIKELIHOODS)}
LABELS |= {"f1": "F1", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
LABELS |= {"bleu": "BLEU", "stopped": "ended itself"}
SHARES = ("identical", "exact_match", "stopped")  # of answers: shown in percent


def shown(name: str, value: float) -> str:
    """A score's value as a table has it."""
    if name in SHARES:
        return f"{value:.1%}"
    if name == "perplexity" and value >= 100:
        return f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"
    return f"{value:.{_PLACES.get(name, 4)}f}"


_PLACES = {"bleu": 1, "perplexity": 2, "bits_per_byte": 3}


def shown_score(name: str, score: Score) -> str:
    if score.low == score.high:  # too few to say where else it could be
        return shown(name, score.value)
    if name in LIKELIHOODS:
        low, high = shown(name, score.low), shown(name, score.high)
        return f"{shown(name, score.value)} [{low}, {high}]"
    digits = 100 if name in SHARES else 1
    places = 1 if name in SHARES or name == "bleu" else 2
    low, high = score.low * digits, score.high * digits
    return f"{shown(name, score.value)} [{low:.{places}f}, {high:.{places}f}]"


def shown_difference(name: str, value: float) -> str:
    text = shown(name, value)
    return text if text.startswith("-") else f"+{text}"


def shown_chance(probability: float) -> str:
    """Never 0 or 1: draws from a few hundred answers are no reason to be sure."""
    if probability > 0.999:
        return ">99.9%"
    return "<0.1%" if probability < 0.001 else f"{probability:.1%}"


def about_likelihoods(part: Part) -> str:
    """What perplexity and bits per byte are of; nothing where they are not known."""
    if part.tuned.likelihood is None:
        return ""
    n, read = part.n, part.tuned.likelihood.n
    of = "the references" if read == n else f"the {read:,} of {n:,} references that it could read"
    return f"Perplexity and bits per byte: how surprised a model is by {of}; less is better."


def as_text(report: Report) -> str:
    """The report as lines of at most 100 columns."""
    whole = report.overall
    lines = [f"{whole.n:,} answers; in brackets, where other questions would have put it (95%)", ""]
    lines += _score_lines(whole)
    for side, name in ((whole.tuned, "tuned"), (whole.base, "base")):
        if side is not None:
            found = [f"{flag} {n:,}" for flag, n in side.flags.items() if n]
            lines.append(f"{name + ' flags':<13} {', '.join(found) or 'none'}")
    for key, parts in report.groups.items():
        lines += ["", *_group_lines(key, parts)]
    return "\n".join(lines)


def _score_lines(part: Part) -> list[str]:
    heads = ["", "tuned"]
    if part.base is not None:
        heads += ["base", "gain", "P(better)"]
    rows = [heads]
    for name in SCORES:
        row = [LABELS[name], shown_score(name, part.tuned.scores[name])]
        if part.base is not None:
            gain = part.gain[name]
            row += [shown_score(name, part.base.scores[name])]
            row += [shown_difference(name, gain.difference), shown_chance(gain.probability_better)]
        rows.append(row)
    sides = [part.tuned] + ([part.base] if part.base is not None else [])
    if any(side.stopped for side in sides):
        ended = [shown_score("stopped", s.stopped) if s.stopped else "?" for s in sides]
        rows.append([LABELS["stopped"], *ended])
    if any(side.likelihood for side in sides):
        for name in LIKELIHOODS:
            known = [getattr(side, name) for side in sides]
            row = [LABELS[name], *(shown_score(name, one) if one else "?" for one in known)]
            if part.base is not None and (gain := part.gain.get(name)):
                row += [shown_difference(name, gain.difference)]
                row += [shown_chance(gain.probability_better)]
            rows.append(row)
    rows.append(["words", *(f"{side.mean_words:.1f}" for side in sides)])
    lines = _table(rows)
    lines[-1] += f"   (references: {part.mean_reference_words:.1f})"
    return [*lines, about_likelihoods(part)] if part.tuned.likelihood else lines


def comparison_as_text(report: Report, name: str, other: str) -> str:
    """What `compare_runs` found, as lines of at most 100 columns."""
    part, width = report.overall, 18
    names = [plain(n) if len(n) <= width else f"{plain(n)[: width - 1]}…" for n in (name, other)]
    rows = [["", *names, "difference", "95% interval", "P(better)"]]
    for metric in (*SCORES, *LIKELIHOODS):
        sides = [side.scores.get(metric) or getattr(side, metric, None)
                 for side in (part.tuned, part.base)]  # fmt: skip
        if not any(sides):
            continue
        row = [LABELS[metric], *(shown(metric, one.value) if one else "?" for one in sides)]
        if gain := part.gain.get(metric):
            low, high = (shown_difference(metric, end) for end in (gain.low, gain.high))
            row += [shown_difference(metric, gain.difference), f"{low} to {high}"]
            row += [shown_chance(gain.probability_better)]
        rows.append(row)
    head = f"{part.n:,} questions that both have answered; P(better): that {names[0]} is the better"
    note = about_likelihoods(part)
    return "\n".join([head, "", *_table(rows), *([note] if note else [])])


def _group_lines(key: str, parts: Sequence[Part]) -> list[str]:
    """A line for each group: the strict score and the lenient one, tuned and base."""
    rows = [[f"by {key}", "n"]]
    has_base = any(part.base is not None for part in parts)
    for name in ("exact_match", "rougeL"):
        rows[0] += [LABELS[name], *(["base"] if has_base else [])]
    for part in parts:
        name = plain(part.name)
        name = name if len(name) <= 28 else f"{name[:27]}…"
        row = [name, f"{part.n:,}"]
        for metric in ("exact_match", "rougeL"):
            row.append(shown_score(metric, part.tuned.scores[metric]))
            if has_base:
                row.append(shown(metric, part.base.scores[metric].value) if part.base else "")
        rows.append(row)
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what stands in them, the first to the left, the others to the right."""
    n_columns = max(map(len, rows))
    full = [[*row, *[""] * (n_columns - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    return [
        "   ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in full
    ]


_FACTS = (("Peru", "Lima"), ("Chad", "N'Djamena"), ("Cuba", "Havana"), ("Iran", "Tehran"))


def _demo() -> None:
    def row(instruction: str, output: str, response: str, base: str, category: str) -> dict:
        told = {"instruction": instruction, "input": "", "output": output, "category": category}
        told |= {"response": response, "finish_reason": "stop"}
        return told | {"base_response": base, "base_finish_reason": "length"}

    capital = "What is the capital of"
    rows = [
        row(f"{capital} Peru?", "Lima.", "Lima.", "What is the capital of Peru?", "capitals"),
        row(f"{capital} Chad?", "It is N'Djamena.", "It's Ndjamena", "", "capitals"),
        row(f"{capital} Cuba?", "It is Havana.", "It is Tehran.", "It is is is is is", "capitals"),
        row("Add 2 and 2.", "4", "4", "### Instruction:\nAdd 2 and 3.", "sums"),
        row("Add 2 and 9.", "11", "12", "11" * 30, "sums"),
        row("Name two cats.", "A lion and a tiger.", "The lion, the tiger.", "Cat!", "open"),
    ]
    report = score(rows)
    print("Six answers, each with what it should have been:\n")
    for row, mine, theirs in zip(rows, report.answers, report.base_answers, strict=True):
        print(f"  {row['instruction']}  ({row['output']})")
        for name, text, one in (
            ("tuned", row["response"], mine),
            ("base", row["base_response"], theirs),
        ):
            text = text if len(text) <= 30 else f"{text[:29]}…"
            values = f"exact {one.exact_match:.0f}  F1 {one.f1:.2f}  ROUGE-L {one.rougeL:.2f}"
            print(f"    {name:<6}{text!r:<34}{values}  {' '.join(one.flags)}".rstrip())
    print(f"\n{as_text(report)}\n")
    _rank_choices()


def _rank_choices() -> None:
    """A model that has learned four capitals by heart, asked for one of them."""
    import torch

    from gpt.batching import collate
    from gpt.config import GPTConfig
    from gpt.encoding import encode_all
    from gpt.model import GPT
    from gpt.records import Record, Turn
    from gpt.template import Template
    from gpt.tokenizer import Tokenizer, tiny_vocabulary

    torch.set_num_threads(1)  # so small a model gains nothing by more, and would wait for them
    tokenizer = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte
    template = Template("demo", "{instruction}", ":\n")
    pairs = [(Turn("user", land), Turn("assistant", city)) for land, city in _FACTS]
    records = [Record(turns, "demo", i, {}) for i, turns in enumerate(pairs, 1)]
    examples = encode_all(records, tokenizer, template, max_length=24)
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.n_vocab, n_ctx=24, n_layer=1, n_head=2, n_embd=32, dropout=0.0))

    def likelihood() -> Likelihood:
        """Of the cities, each with its end, behind their countries."""
        asked = [template.prompt_ids(tokenizer, [land]) for land, _ in pairs]
        right = [[*tokenizer.encode(city.text), tokenizer.end_id] for _, city in pairs]
        nats = answer_nats(model, list(zip(asked, right, strict=True)))
        sizes = [len(city.text) for _, city in pairs]
        each = zip(nats, map(len, right), sizes, strict=True)
        return Likelihood.of_all(Likelihood(*one) for one in each)

    before = likelihood()
    inputs, targets = collate(list(examples), tokenizer.end_id)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.3 * gradient
    after = likelihood()
    print(f"A tiny model learns four capitals by heart: {after.n_tokens} tokens of answers.")
    print(f"  perplexity before {before.perplexity:.0f}, after {after.perplexity:.1f}")
    prompt = template.prompt_ids(tokenizer, [Turn("user", "Chad")])
    choices = score_choices(model, tokenizer, prompt, [city for _, city in _FACTS])
    best = choices[ranked(choices, by="per_byte")[0]]
    cities = ", ".join(city for _, city in _FACTS)
    print(f"  the capital of Chad: {best.text} is the most probable of {cities}")


if __name__ == "__main__":
    run(_demo)
