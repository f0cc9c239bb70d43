"""Answers to look at: whatever a model writes, samples.md stays whole, and a resume repeats it."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import samples as chapter
from gpt.dataset import Sample
from gpt.samples import answer_samples, as_lines, cut_samples, keep_samples, show_samples
from gpt.tokenizer import Tokenizer, tiny_vocabulary

HOSTILE = [
    "",
    "\n",
    "plain",
    "```\n## Step 9, epoch 1\n```",
    "````\n```\n`````",
    "## Step 9, epoch 1",
    "\n\n## Step 2, epoch 1\n",
    "~~~\n## Step 9, epoch 1",
    "```python\nprint(1)",
    "a\r\nb\rc\r```\r## Step 9, epoch 1\r",
    "\x85## Step 9, epoch 1\u2028## Step 9\x0c```\x1c",
    "ends in a fence ```",
    "   ```",
    "\t````",
    "> quoted\n# Title\n---\n<!-- <script>",
    "\ud83d and \udcff",  # halves of characters, from the data
    "\x00\x1b[31m\ufeff🙂ğ",
]
WILD = st.sampled_from(HOSTILE) | st.text(st.sampled_from("`~#> \n\r\x85\u2028aS\\-"), max_size=30)


def write(path, steps, shown="What?", answer="An answer", reference="That."):
    for step in steps:
        samples = [Sample(shown, [1], reference), Sample("Second", [1], "two")]
        keep_samples(path, step, step / 4, samples, [answer, "2"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "samples.md"


def headings(markdown: str, level: str = "h2") -> list[str]:
    """The headings that a Markdown reader finds."""
    markdown_it = pytest.importorskip("markdown_it", reason="the reader to compare with")
    tokens = markdown_it.MarkdownIt("commonmark").parse(markdown)
    return [tokens[i + 1].content for i, t in enumerate(tokens)
            if t.type == "heading_open" and t.tag == level and t.level == 0]  # fmt: skip


# ---- samples.md ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_an_answer_a_prompt_or_a_reference_becomes_a_heading(path, text):
    for name in ("answer", "shown", "reference"):
        path.unlink(missing_ok=True)
        write(path, [5, 1234], **{name: text})
        content = path.read_bytes().decode()  # it is UTF-8, whatever it holds
        assert headings(content) == ["Step 5, epoch 1.25", "Step 1,234, epoch 308.5"]
        assert len(headings(content, "h1")) == 1


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable() and text])
def test_what_was_asked_answered_and_expected_is_there_to_read(path, text):
    write(path, [1], shown=f"asked {text}", answer=f"said {text}", reference=f"meant {text}")
    content = path.read_text(encoding="utf-8")
    for word in ("> asked", "\nsaid", "\nmeant"):
        assert f"{word} {text}" in content


@given(answer=WILD, shown=WILD, reference=WILD, last=st.integers(0, 5))
def test_cut_and_written_again_it_is_the_file_that_was_never_cut(
    tmp_path_factory, answer, shown, reference, last
):
    folder = tmp_path_factory.mktemp("samples")
    steps = [2, 40, 600, 8000, 100_000]
    told = {"answer": answer, "shown": shown, "reference": reference}
    write(folder / "whole.md", steps, **told)
    write(folder / "cut.md", steps, **told)
    kept = steps[last - 1] if last else 0
    for _ in range(2):  # cut twice is cut once
        cut_samples(folder / "cut.md", kept)
    write(folder / "cut.md", steps[last:], **told)
    assert (folder / "cut.md").read_bytes() == (folder / "whole.md").read_bytes()


def test_a_cut_keeps_what_was_written_up_to_the_step(path):
    write(path, [2, 4, 6])
    for step, kept in ((7, [2, 4, 6]), (6, [2, 4, 6]), (5, [2, 4]), (4, [2, 4]), (1, [])):
        cut_samples(path, step)
        found = re.findall(r"^## Step (\d+), epoch", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert found == list(map(str, kept))
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_there_may_be_nothing_to_cut(path):
    cut_samples(path, 3)
    assert not path.exists()


def test_what_was_cut_off_by_a_full_disk_goes_and_the_rest_stays(path):
    write(path, [2])
    whole = path.read_bytes()
    write(path, [4])
    entry = path.read_bytes()[len(whole) :]
    for n in range(4, len(entry)):
        path.write_bytes(whole + entry[:n])
        cut_samples(path, 2)
        assert path.read_bytes() == whole, entry[:n]


def test_a_cut_that_fails_leaves_the_file(path, monkeypatch):
    write(path, [2, 4])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("os.replace", full)
        cut_samples(path, 2)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["samples.md"]


# ---- on a terminal -------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_for_a_terminal_each_is_one_line_that_cannot_move_the_cursor(text):
    sample = Sample(text, [1], "")
    for width in (20, 100):
        lines = as_lines([sample, sample], [text, text * 50], width)
        assert len(lines) == 4
        assert all(line.isprintable() and len(line) <= width for line in lines)


def test_a_long_answer_is_cut_with_a_sign_and_a_short_one_is_not():
    sample = Sample("What?\nThis.", [1], "")
    assert as_lines([sample], ["yes"], 40) == ["  What? ↵ This.", "    > yes"]
    assert as_lines([sample], ["y" * 99], 40)[1] == "    > " + "y" * 33 + "…"


# ---- asking --------------------------------------------------------------------------------


def test_the_model_is_asked_greedily_for_all_prompts_and_unfinished_answers_say_so(monkeypatch):
    tokenizer = Tokenizer(tiny_vocabulary([]))
    asked = {}

    def generate(model, prompts, max_new_tokens, temperature=0.0, end_id=None, **_):
        asked.update(prompts=prompts, temperature=temperature, end_id=end_id, n=max_new_tokens)
        reasons = ("stop", "length", "context")
        return [SimpleNamespace(ids=tokenizer.encode("yes"), finish_reason=r) for r in reasons]

    monkeypatch.setattr(chapter, "generate", generate)
    samples = [Sample("?", tokenizer.encode(text), "") for text in ("a", "bc", "def")]
    assert answer_samples(None, tokenizer, samples, 7) == ["yes", "yes …", "yes …"]
    assert asked["prompts"] == [sample.ids for sample in samples]
    assert asked["temperature"] == 0.0 and asked["end_id"] == tokenizer.end_id and asked["n"] == 7


def test_before_the_first_step_a_few_tokens_are_enough(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(chapter, "answer_samples", lambda *a: asked.append(a[-1]) or ["yes"])
    for step in (0, 1, 117):
        show_samples(None, None, [Sample("?", [1], "")], tmp_path / "s.md", step, 0.0, str)
    assert asked == [chapter._MOST_BEFORE, chapter._MOST_TOKENS, chapter._MOST_TOKENS]
