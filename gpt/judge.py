"""Another model as judge: what it thinks of the answers, and of how many it could not say.

    responses.jsonl ─> plan ─> ask (endpoint.py) ─> judgements.jsonl ─> Judged: a mean, an interval
                       prompts and replies: verdicts.py

Three ways to judge: a `score` from 0 to 100, a `rubric` from 1 to 5, and `pairwise`, in which the
tuned model's answer stands beside the base model's. A judge favours the place in which an answer
stands, so each pair is asked about twice, with the answers swapped: who wins both times has won,
and who wins only from one place has half a point, as the other has.

Every reply is on the disk as soon as it is there, and a run that was killed goes on from it
(judgements.py). What was never answered (a time-out, a refusal) is unscored, with its reason, and
tried again by the next run. A failure is no number: it is neither 0, which would be an opinion of
the answer, nor left out in silence, which would be an opinion of the others.

    python -m gpt.judge         # a judge on this very machine, with its moods
    python scripts/judge.py RUN --endpoint http://localhost:11434/v1 --judge-model llama3.1

Sources: as for verdicts.py.
"""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tqdm import tqdm

from gpt.answers import groups_of
from gpt.bootstrap import Score, mean_score
from gpt.cli import run
from gpt.endpoint import Endpoint, Messages, Reply, ask_all
from gpt.judgements import Log, key_of
from gpt.records import plain
from gpt.verdicts import MODES, RANGES, Verdict, pair_prompt, parse, score_prompt

_PATIENCE = 10  # questions in a row without a reply, after which the endpoint is taken for gone


# ---- what is asked --------------------------------------------------------------------------


class Item(NamedTuple):
    """What one row is judged by: one question, or two with the answers swapped, or none."""

    row: dict
    questions: tuple[Messages, ...]
    known: Verdict | None = None  # where nobody need be asked


def plan(rows: Sequence[dict], mode: str, base: bool = False) -> list[Item]:
    """The questions about each row. base: about the base model's answers (not for pairwise)."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}, and must be one of {MODES}")
    items = []
    for row in rows:
        tuned, other = row["response"], row.get("base_response")
        if mode != "pairwise":
            answer = other if base else tuned
            if answer is None:
                items.append(Item(row, (), Verdict(None, "no answer to judge")))
            else:
                items.append(Item(row, (score_prompt(row, answer, mode),)))
        elif other is None:
            items.append(Item(row, (), Verdict(None, "no second answer to compare with")))
        elif tuned.strip() == other.strip():
            items.append(Item(row, (), Verdict(0.5)))
        else:
            swapped = pair_prompt(row, tuned, other), pair_prompt(row, other, tuned)
            items.append(Item(row, swapped))
    return items


# ---- asking ---------------------------------------------------------------------------------


def judge(
    items: Sequence[Item],
    mode: str,
    endpoint: Endpoint,
    log: Log,
    at_once: int = 4,
    what: str = "judging",
) -> "Judged":
    """Ask all that has no reply yet, and say what has come of it."""
    keys = [[key_of(question, endpoint) for question in item.questions] for item in items]
    todo: dict[str, Messages] = {}
    where: dict[str, dict] = {}
    for item, its_keys in zip(items, keys, strict=True):
        for key, question in zip(its_keys, item.questions, strict=True):
            known = log.replies.get(key)
            if known is None or known.text is None:
                todo[key] = question  # two rows that ask the same are one question
                where[key] = {"mode": mode, "judge": endpoint.model, "where": item.row.get("where")}
    n_asked_before = sum(map(len, keys)) - len(todo)
    last = _ask(todo, mode, endpoint, log, where, at_once, what)
    gave_up = last and last.reason
    verdicts, n_contradicted = [], 0
    for item, its_keys in zip(items, keys, strict=True):
        if item.known is not None:
            verdicts.append(item.known)
            continue
        each = [_verdict(log.replies.get(key), mode, gave_up) for key in its_keys]
        verdicts.append(_both(each) if mode == "pairwise" else each[0])
        n_contradicted += mode == "pairwise" and each[0] == each[1] and each[0].value in (0.0, 1.0)
    rows = [item.row for item in items]
    found = judged(rows, verdicts, mode, endpoint.model, gave_up, n_contradicted, n_asked_before)
    return replace(found, may_go_on=bool(last and last.may_pass))


def _ask(
    todo: dict[str, Messages],
    mode: str,
    endpoint: Endpoint,
    log: Log,
    where: dict[str, dict],
    at_once: int,
    what: str,
) -> Reply | None:
    """Ask, and note each reply. The last one, if it made no sense to go on."""
    in_a_row, any_reply = 0, False
    bar = tqdm(total=len(todo), desc=what, unit=" questions", disable=None)
    with bar:
        replies = ask_all(endpoint, todo, at_once)
        for key, reply in replies:
            about = where[key]
            if reply.text is not None:
                verdict = parse(reply.text, mode)
                about |= {"value": verdict.value, "reason": verdict.reason}
            log.add(key, reply, about)
            bar.update()
            if reply.text is not None:
                any_reply, in_a_row = True, 0
                continue
            in_a_row += 1
            bar.set_postfix_str(reply.reason[:60], refresh=False)
            if in_a_row >= _PATIENCE or (reply.of_all and not any_reply):
                replies.close()
                return reply
    return None


def _verdict(reply: Reply | None, mode: str, gave_up: str | None) -> Verdict:
    if reply is None:
        return Verdict(None, f"not asked, after {gave_up}")
    if reply.text is None:
        return Verdict(None, reply.reason)
    return parse(reply.text, mode)


def _both(each: Sequence[Verdict]) -> Verdict:
    """A pair's verdict: the first is of the tuned answer in the first place, the other swapped."""
    first, second = each
    if first.value is None or second.value is None:
        return first if first.value is None else second  # half a pair would favour a place
    return Verdict((first.value + 1 - second.value) / 2)


# ---- what has come of it --------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A judge's opinion of some answers: plain data, for a page or a terminal."""

    mode: str
    judge: str
    n: int
    n_scored: int
    mean: Score | None  # of the scored; pairwise: the share of points won; None if none is scored
    by_category: dict[str, Score]
    unscored: dict[str, int]  # reason -> how many rows, the most frequent first
    n_contradicted: int  # pairs in which the same place won both times
    n_known: int  # questions that an earlier run, or an equal row, had asked
    gave_up: str | None  # why the run ended early, if it did
    verdicts: list[Verdict]  # one for each row
    may_go_on: bool = False  # whether asking again, later, may help

    def to_dict(self) -> dict:
        """For JSON: all but the single verdicts."""
        told = asdict(self) | {
            "mean": self.mean and self.mean._asdict(),
            "by_category": {name: score._asdict() for name, score in self.by_category.items()},
        }
        del told["verdicts"]
        return told


def judged(
    rows: Sequence[dict],
    verdicts: list[Verdict],
    mode: str,
    judge: str,
    gave_up: str | None = None,
    n_contradicted: int = 0,
    n_known: int = 0,
) -> Judged:
    scored = [place for place, verdict in enumerate(verdicts) if verdict.value is not None]
    values = [verdicts[place].value for place in scored]
    groups = groups_of([rows[place] for place in scored], "category")
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.value is None)
    return Judged(
        mode,
        judge,
        len(rows),
        len(values),
        _mean(values, mode) if values else None,
        {
            name: _mean([values[i] for i in places], mode)
            for name, places in groups.items()
            if len(groups) > 1
        },
        dict(reasons.most_common()),
        n_contradicted,
        n_known,
        gave_up,
        verdicts,
    )


def _mean(values: Sequence[float], mode: str) -> Score:
    low, high = RANGES[mode]
    share = mean_score([(value - low) / (high - low) for value in values])
    return Score(*(low + (high - low) * end for end in share))


def as_text(judged: Judged, of: str = "the answers") -> str:
    """Lines for a terminal: the mean, the categories, and what is unscored and why."""
    what = {"score": "score", "rubric": "rubric", "pairwise": "win rate"}[judged.mode]

    def shown(score: Score) -> str:
        if judged.mode == "pairwise":
            return f"{score.value:.1%} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
        places = 1 if judged.mode == "score" else 2
        value, low, high = (f"{end:.{places}f}" for end in score)
        return f"{value} [{low}, {high}] of {RANGES[judged.mode][1]}"

    mean = shown(judged.mean) if judged.mean else "none"
    lines = [f"{what} of {of}, by {judged.judge}: {mean}"]
    lines += [
        f"  {plain(category)}: {shown(score)}" for category, score in judged.by_category.items()
    ]
    n_unscored = judged.n - judged.n_scored
    lines.append(f"scored {judged.n_scored:,} of {judged.n:,}, unscored {n_unscored:,}")
    lines += [f"  {n:,}: {reason}" for reason, n in list(judged.unscored.items())[:10]]
    if len(judged.unscored) > 10:
        lines.append(f"  … and {len(judged.unscored) - 10:,} more reasons")
    if judged.mode == "pairwise":
        share = f"{judged.n_contradicted:,} of {judged.n_scored:,}"
        lines.append(f"pairs in which the place decided, and not the answer: {share}")
    if judged.gave_up:
        again = "; run again to go on" if judged.may_go_on else ""
        lines.append(f"gave up: {judged.gave_up}{again}")
    return "\n".join(lines)


# ---- a demonstration ------------------------------------------------------------------------


class _Moody(BaseHTTPRequestHandler):
    """A judge for the demonstration: what it replies is told by the answer that it is shown."""

    n_requests = 0

    def do_POST(self) -> None:
        type(self).n_requests += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        if "<answer_a>" in asked:  # likes tigers, and otherwise what it reads first
            said = "B" if "tiger" in asked.split("<answer_b>")[1] else "A"
        else:
            said = next((said for word, said in _MOODS.items() if word in asked), "100")
        is_busy = said == "busy"
        reply = {"choices": [{"message": {"content": said}}]}
        data = json.dumps({"error": "out of order"} if is_busy else reply).encode()
        self.send_response(400 if is_busy else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


_MOODS = {
    "lion": "85",
    "goat": "N/A",
    "ox": "90/100",
    "bee": "Score: 90",
    "ant": "150",
    "yak": "busy",
}


def _demo() -> None:
    tuned = ["A tiger.", "A lion.", "A goat.", "An ox.", "A bee.", "An ant.", "A yak."]
    rows = [
        {
            "instruction": f"Name animal {i}.",
            "output": "",
            "response": one,
            "base_response": "A dog.",
        }
        for i, one in enumerate(tuned, 1)
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Moody)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "moody")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "judgements.jsonl"
        result = judge(plan(rows, "score"), "score", endpoint, Log(path), at_once=1)
        print("Seven answers, and what their judge replied:\n")
        for line, verdict, row in zip(
            path.read_text(encoding="utf-8").splitlines(), result.verdicts, rows, strict=True
        ):
            said = json.loads(line)["reply"]
            value = "unscored" if verdict.value is None else f"{verdict.value:.0f}"
            print(
                f"  {row['response']:<10} {said!r:<13} {value:<9} {verdict.reason or ''}".rstrip()
            )
        print(f"\n{as_text(result)}\n")

        n_before = _Moody.n_requests
        judge(plan(rows, "score"), "score", endpoint, Log(path), at_once=1)
        print(f"Judged again: {_Moody.n_requests - n_before} question, the one without a reply.\n")

        result = judge(plan(rows, "pairwise"), "pairwise", endpoint, Log(path), at_once=1)
        print("Each answer against 'A dog.', in both orders:\n")
        print(as_text(result))
    server.shutdown()


if __name__ == "__main__":
    run(_demo)
