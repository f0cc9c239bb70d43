"""The corpus: the same for a seed everywhere, nothing twice, every fact often, no instruction."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from data.corpus.lessons import beginning
from data.corpus.speech import ask
from data.corpus.stream import END, SKILLS, documents
from data.dice import Dice
from data.make import size
from data.world.facts import BY_ID, FACTS

ROOT = Path(__file__).resolve().parents[1]
MILLIONS = 4_000_000  # characters: about a million tokens


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """The first million tokens or so."""
    some, length = [], 0
    for text in documents(seed=1):
        some.append(text)
        length += len(text)
        if length >= MILLIONS:
            return some
    raise AssertionError("the stream came to an end")


def test_the_corpus_never_shows_the_instruction_format(texts):
    for text in texts:
        assert "###" not in text
        assert "Below is an" not in text
        assert END not in text
        assert not re.search(r"(?i)\binstruction|\bresponse", text)


def test_no_document_comes_twice(texts):
    assert len(set(texts)) == len(texts)


def test_documents_are_texts_of_some_length_without_loose_ends(texts):
    assert 250 < sum(map(len, texts)) / len(texts) < 600
    for text in texts:
        assert text == text.strip()
        assert 15 < len(text) < 2000
        assert not re.search(r"[{}]|\.,|,\.|,,|\?\.|  |\n\n\n", text), text
        assert text.count('"') % 2 == 0, text


def test_every_fact_is_told_tens_of_times_in_a_million_tokens(texts):
    by_word: dict[str, set[int]] = {}
    for i, text in enumerate(texts):
        for word in set(re.findall(r"[\w-]+", text)) | set(re.findall(r"[\w-]+", text.lower())):
            by_word.setdefault(word, set()).add(i)

    def documents_with(form: str) -> set[int]:
        parts = re.findall(r"[\w-]+", form.removeprefix("the "))
        return set.intersection(*(by_word.get(part, set()) for part in parts))

    times = {}
    for fact in FACTS:
        groups = [set().union(*map(documents_with, forms)) for forms in fact.marks]
        times[fact.id] = len(set.intersection(*groups))  # documents; most say it more than once
    rare = {id_: n for id_, n in times.items() if n < 10}
    assert not rare
    assert sorted(times.values())[len(times) // 2] >= 15


def test_every_skill_is_shown_dozens_of_times_in_a_million_tokens(texts):
    whole = "\n".join(texts)
    for skill in SKILLS:
        starts = [re.split(r"\{[xqa]\}", ask)[0].strip(" :")[1:] for ask in skill.asks]
        assert sum(whole.count(start) for start in starts if len(start) > 5) > 60, skill.name


def test_it_reads_like_english_with_all_kinds_of_beginnings(texts):
    whole = "\n".join(texts)
    for phrase in ("Once upon a time there was a", "The capital of", "Dear ", "asked Mira", "task"):
        assert whole.count(phrase) > 50, phrase
    for word in ("describe", "Write", "List", "Explain", "Name", "request", "answer", "Give me"):
        assert whole.count(word) > 20, word
    assert len({text.split()[0] for text in texts}) > 150
    assert len(Counter(re.findall(r"[a-z]+", whole.lower()))) < 4000


@pytest.mark.parametrize(
    "blemish",
    [
        r"\A\W*(And|Also)\b",  # nothing was said before
        r"wants to [^.]*\byour\b",
        r"(I want to know how|Teach me) to [^.]*\byour\b",
        r"The (\w+) (is|was) (not )?a \1\b",
        r"\bis is ",
        r"In a beach",
        r"- (month|next|number|planet) (place|days|month|day|letter|word)\b",
        r"(What is|Which number comes) [^.?:\n]*: (\d+, )+\d+\.",
        r"(?i)in one word[:,] [^?\n]*\?\W+(\w+: |\w+ said[:,] \W?)?[\w']+ [\w']+[.,]\"",
        r"What is the (author|painter|composer|animal|person) ",
        r"(?i)to which (kind|class) of (animals|things)",
        r"What do \w+ do\?",
        r"people from [\w ]+ called",
        r"Homer (came|was born)",
    ],
)
def test_no_text_has_an_old_blemish(texts, blemish):
    assert [text for text in texts if re.search(blemish, text)] == []


def test_a_list_for_one_word_each_has_one_word_each(texts):
    asked = [text for text in texts if re.match(r"[^\n]*\nAnswer in one word\.\n\n", text)]
    assert asked
    for text in asked:
        answers = text.partition("Answer in one word.\n")[2].strip().split("\n\n")
        assert not any(" " in row.split("\n")[1] for row in answers if "?\n" in row), text


def test_the_same_seed_gives_the_same_documents_in_any_process():
    code = (
        "import hashlib; from itertools import islice; from data.corpus.stream import documents;"
        "print(hashlib.sha256('\\0'.join(islice(documents(7), 500)).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout.strip()
        for seed in ("0", "12345")
    }
    here = hashlib.sha256("\0".join(islice(documents(7), 500)).encode()).hexdigest()
    assert found == {here}


def test_another_seed_gives_other_documents():
    assert set(islice(documents(1), 200)).isdisjoint(islice(documents(2), 200))


def test_what_a_question_gets_depends_on_what_it_asks_for():
    dice = Dice(3)
    fact = BY_ID["young/sheep"]
    exchanges = [ask(dice, fact) for _ in range(400)]
    one_word = [e for e in exchanges if "one word" in e.question or "short answer" in e.question]
    sentences = [e for e in exchanges if "sentence" in e.question]
    assert {e.answer for e in one_word} == {"Lamb."}
    assert {e.answer for e in sentences} == {"The young of a sheep is called a lamb."}
    assert any(e.answer == "A sheep." for e in exchanges)  # asked from the other end
    assert len({e.question for e in exchanges}) > 20


def test_a_gap_is_cut_before_the_answer():
    assert beginning(BY_ID["capital/Japan"]) == "The capital of Japan is"
    assert beginning(BY_ID["young/cow"]) == "The young of a cow is called a"


def run_make(*arguments, code=0):
    command = [sys.executable, str(ROOT / "data" / "make.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == code, done.stderr
    return done


def test_the_command_writes_documents_between_end_lines(tmp_path):
    path = tmp_path / "corpus.txt"
    run_make("corpus", "--tokens-about", "20k", "--seed", "5", "--out", str(path))
    parts = path.read_bytes().decode("utf-8").split(f"\n{END}\n")
    assert parts.pop() == ""
    assert parts == list(islice(documents(5), len(parts)))
    assert sum(map(len, parts[:-1])) < 20_000 * 3.6 <= sum(map(len, parts))


def test_the_commands_mistakes_take_a_line_or_two(tmp_path):
    done = run_make("corpus", "--tokens-about", "many", code=2)
    assert "500k or 20M, not 'many'" in done.stderr
    assert "python data/make.py --help" in done.stderr
    assert "a number such as" in run_make("corpus", "--tokens-about", "0", code=2).stderr
    for what in ("check", "instructions"):
        assert "are of the corpus" in run_make(what, "--seed", "1", code=2).stderr
    done = run_make("corpus", "--out", str(tmp_path / "no" / "such" / "folder.txt"), code=1)
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_sizes():
    assert [size(text) for text in ("7", "500k", "2M")] == [7, 500_000, 2_000_000]
