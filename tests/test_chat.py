"""The terminal chat: the template's own form, what it forgets and says so, and its commands."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt import chatting
from gpt.chatting import Chat, ChatError, converse, message_from, obey
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.generate import generate
from gpt.model import GPT
from gpt.records import load_records
from gpt.shapes import Turn
from gpt.speaking import Controls, Speaker, for_terminal
from gpt.template import BUILT_IN, Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import save_model
from tests.runs import run_script

ROOT = Path(__file__).parents[1]
TEMPLATE = Template("short", "You: {instruction}", "\nBot:\n")
VOCABULARY = tiny_vocabulary(learn_merges("You: What is up?\nBot: Below is an instruction", 30))


def model_of(n_ctx: int = 64) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(Tokenizer(VOCABULARY).n_vocab, n_ctx, n_layer=1, n_head=2, n_embd=16))
    model.vocabulary = VOCABULARY
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def chat_of(n_ctx: int = 64, max_new_tokens: int = 5, **more) -> Chat:
    speaker = Speaker(Path("x"), model_of(n_ctx), Tokenizer(VOCABULARY), TEMPLATE, is_tuned=True)
    return Chat(speaker, Controls(max_new_tokens=max_new_tokens), **more)


@pytest.fixture
def prompts(monkeypatch):
    """What the model is asked, as ids."""
    seen: list[list[int]] = []

    def watched(model, prompts, *more, **settings):
        seen.extend(prompts)
        return generate(model, prompts, *more, **settings)

    monkeypatch.setattr(chatting, "generate", watched)
    return seen


def test_a_conversation_is_asked_in_the_form_of_training(prompts):
    chat = chat_of(system="Be kind.")
    pieces: list[str] = []
    first = chat.ask("What?", pieces.append)
    assert "".join(pieces) == first.text
    second = chat.ask("And?", pieces.append)
    turns = [
        Turn("system", "Be kind."), Turn("user", "What?"), Turn("assistant", first.text),
        Turn("user", "And?"), Turn("assistant", second.text),
    ]  # fmt: skip
    tokenizer = chat.speaker.tokenizer
    assert prompts == [TEMPLATE.prompt_ids(tokenizer, t) for t in (turns[:2], turns[:4])]
    assert prompts[1].count(tokenizer.end_id) == 1  # after the first answer, and by code
    assert chat.turns == turns[1:]


def test_an_end_token_that_is_typed_is_ordinary_text(prompts):
    chat = chat_of()
    chat.ask("<|endoftext|>", str)
    assert chat.speaker.tokenizer.end_id not in prompts[0]


def test_the_oldest_turns_are_forgotten_and_it_is_said(prompts):
    chat = chat_of(n_ctx=64, system="Be kind.")
    tokenizer, told = chat.speaker.tokenizer, []
    for i in range(8):
        reply = chat.ask(f"Number {i}?", str)
        told += [note for note in reply.notes if "forgotten" in note]
        assert bool(chat.n_forgotten) == bool(told)
        asked = [Turn("system", "Be kind."), *chat.turns[chat.n_forgotten : -1]]
        assert prompts[-1] == TEMPLATE.prompt_ids(tokenizer, asked) and asked[1].role == "user"
        assert len(prompts[-1]) + 5 <= 64
    assert chat.n_forgotten > 4 and len(told) == 1 and "64 tokens" in told[0]
    assert len(chat.turns) == 16  # /save has them all
    chat.reset()
    chat.ask("New?", str)
    assert prompts[-1] == TEMPLATE.prompt_ids(
        tokenizer, [Turn("system", "Be kind."), Turn("user", "New?")]
    )


def test_an_empty_answer_is_no_part_of_the_conversation(prompts, tmp_path):
    """The model reads it no more, and nobody is tuned on it: check_data.py would refuse it."""
    chat = chat_of()
    chat.ask("One?", str)
    chat.controls = replace(chat.controls, max_new_tokens=0)
    empty = chat.ask("Two?", str)
    assert empty.text == "" and any("left out" in note for note in empty.notes)
    chat.controls = replace(chat.controls, max_new_tokens=5)
    chat.ask("Three?", str)
    assert [turn.text for turn in chat.turns[::2]] == ["One?", "Three?"]
    assert prompts[-1] == TEMPLATE.prompt_ids(chat.speaker.tokenizer, chat.turns[:3])
    path = tmp_path / "x.json"
    told = obey(chat, f"/save {path}")
    assert told == f"written: {path} (2 questions, answered)"
    assert [record.turns for record in load_records([path])] == [tuple(chat.turns)]


def test_saving_a_chat_without_any_answer_is_refused(tmp_path):
    chat = chat_of(max_new_tokens=0)
    chat.ask("One?", str)
    with pytest.raises(ChatError, match="nothing was said"):
        obey(chat, f"/save {tmp_path / 'x.json'}")


def test_a_message_longer_than_the_context_is_refused_with_both_numbers():
    chat = chat_of(n_ctx=32)
    with pytest.raises(ChatError, match=r"this message alone makes \d\d\d tokens, .* sees 32"):
        chat.ask("x y z " * 40, str)
    assert chat.turns == []
    chat.ask("Hi", str)
    assert len(chat.turns) == 2


def test_ctrl_c_ends_an_answer_and_keeps_what_was_said():
    chat = chat_of(max_new_tokens=20)
    heard: list[str] = []

    def interrupt(piece: str) -> None:
        heard.append(piece)
        if len(heard) == 3:
            raise KeyboardInterrupt

    reply = chat.ask("Go", interrupt)
    assert reply.finish_reason == "interrupted" and reply.text == "".join(heard)
    assert chat.turns[-1] == Turn("assistant", reply.text)
    whole = chat_of(max_new_tokens=20).ask("Go", str).text
    assert whole.startswith(reply.text) and len(whole) > len(reply.text)
    assert chat.ask("And?", str).finish_reason != "interrupted"


def test_the_same_question_is_drawn_anew_and_a_seed_repeats_the_conversation():
    def said() -> list[str]:
        chat = chat_of(max_new_tokens=12)
        chat.controls = Controls(max_new_tokens=12, temperature=1.0, seed=4)
        answers = []
        for _ in range(3):
            answers.append(chat.ask("Go", str).text)
            chat.reset()
        return answers

    assert said() == said() and len(set(said())) == 3


def test_lines_that_end_in_a_backslash_go_on():
    def all_of(*lines: str) -> list[str]:
        left = iter(lines)
        messages = iter(lambda: message_from(lambda goes_on: next(left, None)), None)
        return list(messages)

    assert all_of("a", "b\\", "c\\", "d", "", "e\\") == ["a", "b\nc\nd", "", "e"]


def test_commands_change_the_conversation_and_the_settings(tmp_path):
    chat = chat_of()
    with pytest.raises(ChatError, match="nothing was said"):
        obey(chat, f"/save {tmp_path / 'x.json'}")
    chat.ask("What?", str)
    assert "/settings" in obey(chat, "/help")
    obey(chat, "/settings temperature 0.7")
    obey(chat, "/settings stop a b")
    obey(chat, "/settings top-k 3")
    assert chat.controls == Controls(5, temperature=0.7, top_k=3, stop=("a b",))
    shown = obey(chat, "/settings")
    assert "temperature        0.7" in shown and "stop               'a b'" in shown
    obey(chat, "/settings stop none")
    obey(chat, "/settings top_k off")
    assert chat.controls == Controls(5, temperature=0.7)
    for line, said in (
        ("/settings temprature 1", "did you mean temperature"),
        ("/settings temperature hot", "no number"),
        ("/settings top_p 7", "top_p must be above 0"),
        ("/settings seed -1", "seed must be"),
        ("/settings seed", "used otherwise"),
        ("/sav x", "did you mean /save"),
        ("/xyzzy", "/help lists them"),
        ("/reset all", "used otherwise"),
    ):
        with pytest.raises(UserError, match=said):
            obey(chat, line)
    assert chat.controls == Controls(5, temperature=0.7) and chat.turns
    obey(chat, "/reset")
    assert chat.turns == []


def test_a_saved_conversation_can_be_trained_on_and_is_never_overwritten(tmp_path):
    chat = chat_of(system="Be kind.", max_new_tokens=9)
    chat.ask("What?", str)
    chat.ask("And 🐈?", str)
    path = tmp_path / "my talk.json"
    obey(chat, f"/save {path}")
    assert json.loads(path.read_text(encoding="utf-8"))[0]["messages"][0]["role"] == "system"
    [record] = load_records([path])
    assert record.turns == (Turn("system", "Be kind."), *chat.turns)
    before = path.read_bytes()
    with pytest.raises(ChatError, match="is there already"):
        obey(chat, f"/save {path}")
    assert path.read_bytes() == before
    with pytest.raises(ChatError, match="not written"):
        obey(chat, f"/save {tmp_path / 'no' / 'folder.json'}")


def test_a_raw_text_has_no_template_around_it_and_no_memory(prompts, tmp_path):
    chat = chat_of(raw=True)
    encode = chat.speaker.tokenizer.encode
    chat.ask("Once upon", str)
    chat.ask(" a time ", str)
    assert prompts == [encode("Once upon"), encode(" a time ")]
    chat.save(tmp_path / "x.json")
    assert [r.turns[0].text for r in load_records([tmp_path / "x.json"])] == [
        "Once upon", " a time ",
    ]  # fmt: skip


def test_a_mistake_is_told_and_the_conversation_goes_on():
    lines = iter(["/nope", "x y z " * 100, "Hi", "/quit", "never read"])
    said, told = [], []
    converse(chat_of(), lambda goes_on: next(lines, None), said.append, told.append)
    assert told[0].startswith("there is no /nope") and told[1].startswith("not asked")
    assert "".join(said).endswith("\n") and next(lines) == "never read"


def test_control_codes_of_a_model_do_not_reach_the_terminal():
    assert for_terminal("a\x1b[2J\r\x07\x9bb\n\tç 👩‍👩‍👧 漢") == "a�[2J���b\n\tç 👩‍👩‍👧 漢"


# ---- the script -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base model, and the same with a template: as good as tuned."""
    folder = tmp_path_factory.mktemp("models")
    model = model_of(n_ctx=256)
    save_model(model, folder / "base")
    model.vocabulary = TEMPLATE.add_to(VOCABULARY)
    save_model(model, folder / "tuned")
    return folder


def talk(monkeypatch, folder: Path, lines: str, *more: str):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    given = ["--model", str(folder), "--device", "cpu", "--max-new-tokens", "6", *more]
    return run_script("chat", *given)


def test_the_script_answers_what_is_piped_into_it(folders, monkeypatch):
    ended = talk(monkeypatch, folders / "tuned", "What?\n\nAnd\\\nmore?\n/settings\n/quit\nnever\n")
    assert ended.returncode == 0, ended.stderr
    chat = chat_of(n_ctx=256, max_new_tokens=6)
    replies = [chat.ask("What?", str).text, chat.ask("And\nmore?", str).text]
    assert ended.stdout == "".join(f"{text}\n" for text in replies)
    assert "tuned with the template short" in ended.stderr and "never tuned" not in ended.stderr
    assert "temperature        0.0" in ended.stderr


def test_a_base_model_is_told_apart_and_goes_on_with_the_text(folders, monkeypatch):
    raw = talk(monkeypatch, folders / "base", "Once upon\n")
    assert "never tuned to answer: it goes on with what you write" in raw.stderr
    assert raw.stdout == chat_of(256, 6, raw=True).ask("Once upon", str).text + "\n"
    asked = talk(monkeypatch, folders / "base", "Once upon\n", "--template", "alpaca")
    chat = chat_of(256, 6)
    chat.speaker.template = BUILT_IN["alpaca"]
    assert asked.stdout == chat.ask("Once upon", str).text + "\n"
    assert "asked in the template alpaca" in asked.stderr


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("nowhere", [], "no such folder"),
        ("tuned", ["--template", "chatml"], "tuned with the template 'short'"),
        ("base", ["--system", "Be kind."], "give a --template"),
        ("tuned", ["--temperature", "-1"], "temperature must be"),
    ],
)
def test_mistakes_are_one_line(folders, monkeypatch, name, more, said):
    monkeypatch.chdir(folders)
    ended = talk(monkeypatch, Path(name), "", *more)
    assert ended.returncode == (2 if "must be" in said else 1)  # wrong usage, or a failed run
    assert said in ended.stderr and len(ended.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_at_a_terminal_ctrl_c_ends_the_answer_and_not_the_chat(folders):
    import pty

    ours, theirs = pty.openpty()
    slow = (
        "import sys, time, runpy; sys.argv[0] = 'scripts/chat.py'; sys.path.insert(0, '.')\n"
        "import gpt.rows as r; add = r.Row.add\n"
        "r.Row.add = lambda *a: (time.sleep(0.05), add(*a))[1]\n"
        "runpy.run_path('scripts/chat.py', run_name='__main__')"
    )
    given = ["--model", str(folders / "tuned"), "--device", "cpu", "--max-new-tokens", "200"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *given], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)

    def heard_until(text: bytes) -> bytes:
        heard = b""
        while text not in heard:
            heard += os.read(ours, 1000)
        return heard

    try:
        heard_until(b"you> ")
        os.write(ours, b"What?\n")
        heard_until(b"What?\r\n")
        begun = b""
        while len(begun) < 40:  # the answer is being written
            begun += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        heard = heard_until(b"you> ")
        assert b"what was said so far counts" in heard and b"Traceback" not in heard
        os.write(ours, b"/quit\n")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
