"""The prompt: one for training, generation and transformers, whatever the texts are."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt.jinja import messages
from gpt.records import Record, Turn, load_records
from gpt.segments import ANSWER, END, PARTS, PREAMBLE
from gpt.template import (
    BUILT_IN,
    Template,
    TemplateError,
    find_template,
    template_of,
)
from gpt.tokenizer import END as END_TEXT
from gpt.tokenizer import Tokenizer, learn_merges, read_vocabulary, tiny_vocabulary

REPOSITORY = Path(__file__).parents[1]
OWN = Template(  # awkward on purpose: blanks round the texts, signs that mean something to Jinja
    name="own",
    preamble="{{ 'quoted' }} \"\\n\" {% if %} é🙂\r\n\t",
    preamble_with_input="{# with #} ",
    system=" {system} ",
    instruction="{ {instruction} }",
    input="{input}",
    response=" {-%}\x1c:\n",
)
TEMPLATES = {**BUILT_IN, "own": OWN}

SNIPPETS = [
    *(
        " leads",
        "'s",
        "\n\n",
        "\n",
        " ",
        "trails ",
        "\t",
        "\r\n",
        "🙂",
        "👩‍👩‍👧",
        "日本語",
        "ş",
        "e\u0301",
    ),
    *("word", "two words", "1234", END_TEXT, "### Response:", "\n\n### Response:\n", "### Input:"),
    *("<|user|>", "<|im_end|>", "{instruction}", "{input}", "{{ x }}", "\x1c", "\x85", "\u200b"),
]
texts = st.lists(st.sampled_from(SNIPPETS) | st.text(st.characters(codec="utf-8"), max_size=4))
texts = texts.map("".join)
nonempty = texts.filter(bool)
pairs = st.builds(
    lambda text, input, answer: (Turn("user", text, input), Turn("assistant", answer)),
    *(nonempty, st.just("") | texts, nonempty),
)
conversations = st.builds(
    lambda system, pairs: (*system, *(turn for pair in pairs for turn in pair)),
    st.just(()) | st.builds(lambda text: (Turn("system", text),), nonempty),
    st.lists(pairs, min_size=1, max_size=3),
)
BLANK_EVERYWHERE = (
    *(Turn("system", " \n"), Turn("user", "\n\n", " \n "), Turn("assistant", "\n\n 's")),
    *(Turn("user", " trails \n\n"), Turn("assistant", f" {END_TEXT}\n\n### Response:\n ")),
)
ALL = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tokenizer:
    corpus = " ".join(part for t in BUILT_IN.values() for part in t.to_dict().values())
    merges = learn_merges(corpus + "\n\n the words \n \n\n", 150)
    folder = tmp_path_factory.mktemp("tiny")
    Tokenizer(tiny_vocabulary(merges)).save(folder)
    return Tokenizer.from_folder(folder)  # with the files that transformers needs, too


@pytest.fixture(scope="module", params=["tiny", "gpt2"])
def tokenizer(request) -> Tokenizer:
    if request.param == "tiny":
        return request.getfixturevalue("tiny")
    return Tokenizer.from_folder(request.getfixturevalue("shared") / "gpt2")


def record(*turns: Turn) -> Record:
    return Record(turns, "x.json", 1, {})


def ask(text: str, input: str = "", answer: str = "Yes.") -> Record:
    return record(Turn("user", text, input), Turn("assistant", answer))


def as_bytes(tokenizer: Tokenizer, ids) -> bytes:
    return b"".join(map(tokenizer.token_bytes, ids))


# What the prompts are


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"
)
WITH_INPUT = ALPACA.replace("task. ", "task, paired with an input that provides further context. ")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("alpaca", ALPACA),
        ("alpaca-two", WITH_INPUT),
        ("phi3", "<|user|>\nAdd.\n1, 2\n<|assistant|>\n"),
        ("chatml", "<|im_start|>user\nAdd.\n1, 2<|im_end|>\n<|im_start|>assistant\n"),
        ("plain", "Add.\n\n1, 2\n\n###\n"),
    ],
)
def test_the_built_in_prompts(tiny, name, prompt):
    assert tiny.decode(BUILT_IN[name].prompt_ids(tiny, [Turn("user", "Add.", "1, 2")])) == prompt


def test_without_an_input_there_is_no_header_for_one_and_stanfords_preamble_is_the_books(tiny):
    prompts = [
        BUILT_IN[name].prompt_ids(tiny, [Turn("user", "Add.")])
        for name in TEMPLATES
        if "alpaca" in name
    ]
    assert prompts[0] == prompts[1]
    assert tiny.decode(prompts[0]) == ALPACA.replace("\n\n### Input:\n1, 2", "")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("alpaca", "Be brief.\n\n### Instruction:\nAdd.\n\n### Response:\n"),
        ("phi3", "<|system|>\nBe brief.\n<|user|>\nAdd.\n<|assistant|>\n"),
        ("plain", "Be brief.\n\nAdd.\n\n###\n"),
    ],
)
def test_a_system_message_stands_first_and_instead_of_the_preamble(tiny, name, prompt):
    turns = [Turn("system", "Be brief."), Turn("user", "Add.")]
    assert tiny.decode(BUILT_IN[name].prompt_ids(tiny, turns)) == prompt


def test_the_books_set_has_the_books_numbers(shared):
    """56.4 tokens on average and 91 at most: prompt and answer, without the end token."""
    tokenizer = Tokenizer.from_folder(shared / "gpt2")
    records = load_records([shared / "datasets" / "book-1100.json"])
    encoded = [BUILT_IN["alpaca"].encode(tokenizer, record) for record in records]
    lengths = [len(ids) for ids, _ in encoded]
    assert (round(sum(lengths) / len(lengths), 1), max(lengths)) == (56.4, 91)
    supervised = sum(int(e.supervised.sum()) + 1 for e in encoded)  # with the end token
    assert round(supervised / (sum(lengths) + len(lengths)), 2) == 0.23
    before_the_instruction = PARTS.index("instruction")
    assert {e.parts.tolist().index(before_the_instruction) for e in encoded} == {24}


# Pitfalls 3, 4, 5, 15: supervision, for any texts


@ALL
@settings(max_examples=25)  # for each template and each vocabulary
@given(turns=conversations)
@example(turns=BLANK_EVERYWHERE)
def test_supervised_are_the_answers_and_their_ends_and_nothing_else(tokenizer, template, turns):
    ids, parts = template.encode(tokenizer, record(*turns))
    answers = [turn.text.encode() for turn in turns if turn.role == "assistant"]
    supervised = [(id, part) for id, part in zip(ids, parts, strict=True) if part in (ANSWER, END)]
    ended, answer = [], []
    for id, part in supervised:
        if part == END:
            assert id == tokenizer.end_id
            ended.append(as_bytes(tokenizer, answer))
            answer = []
        else:
            answer.append(id)
    assert [*ended, as_bytes(tokenizer, answer)] == answers  # the last end is collate's to add
    assert parts[-1] == ANSWER


@ALL
@settings(max_examples=25)  # for each template and each vocabulary
@given(turns=conversations)
@example(turns=BLANK_EVERYWHERE)
def test_what_training_reads_before_an_answer_is_what_generation_prompts_with(
    tokenizer, template, turns
):
    ids, parts = template.encode(tokenizer, record(*turns))
    start = 0
    for i, turn in enumerate(turns):
        if turn.role == "assistant":
            prompt = template.prompt_ids(tokenizer, turns[:i])
            assert ids[: len(prompt)].tolist() == prompt
            assert not {ANSWER, END} & set(parts[start : len(prompt)].tolist())
            start = len(prompt) + len(tokenizer.encode(turn.text)) + 1
    assert len(ids) == start - 1


@ALL
@settings(max_examples=25)  # for each template and each vocabulary
@given(text=texts, input=texts)
@example(text=" \n", input="\n ")
@example(text="", input="'s")
def test_a_prompt_has_the_ids_of_its_whole_text(tokenizer, template, text, input):
    ids = template.prompt_ids(tokenizer, [Turn("user", text, input)])
    whole = (input and template.preamble_with_input) or template.preamble
    whole += text.join(template.instruction.split("{instruction}"))
    whole += input.join(template.input.split("{input}")) if input else ""
    whole += template.response
    assert ids == tokenizer.encode(whole)
    assert as_bytes(tokenizer, ids) == whole.encode()


@ALL
def test_no_text_makes_an_end_token(tokenizer, template):
    turns = [Turn(role, END_TEXT * 2, END_TEXT if role == "user" else "") for role in ROLES]
    ids, parts = template.encode(tokenizer, record(*turns))
    assert [part for id, part in zip(ids, parts, strict=True) if id == tokenizer.end_id] == [END]


ROLES = ("system", "user", "assistant", "user", "assistant")


@ALL
@settings(max_examples=25)  # for each template and each vocabulary
@given(answer=nonempty)
@example(answer="\n\n")
@example(answer="'s")
def test_no_answer_changes_a_prompt(tokenizer, template, answer):
    without = template.prompt_ids(tokenizer, [Turn("user", "Name it.")])
    ids, parts = template.encode(tokenizer, ask("Name it.", answer=answer))
    assert ids.tolist() == without + tokenizer.encode(answer)
    assert (parts == ANSWER).tolist() == [False] * len(without) + [True] * (len(ids) - len(without))


def test_a_prompt_ends_where_the_pre_tokenizer_cuts_for_any_first_word(shared):
    """So that a tool that encodes prompt and answer in one go gets the ids that we train on."""
    tokenizer = Tokenizer.from_folder(shared / "gpt2")
    for template in BUILT_IN.values():
        for answer in ("Word", " word", "'s", "123", "\nword", "🙂", "\tx"):
            prompt = template.prompt_ids(tokenizer, [Turn("user", "Name it.")])
            whole = tokenizer.encode(tokenizer.decode(prompt) + answer)
            assert whole == prompt + tokenizer.encode(answer)


# transformers


def open_with_transformers(folder: Path, files: dict[str, bytes]):
    transformers = pytest.importorskip("transformers")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return transformers.AutoTokenizer.from_pretrained(folder)


def theirs(library, turns, **options) -> list[int]:
    return library.apply_chat_template(messages(turns), return_dict=False, **options)


@ALL
def test_transformers_makes_the_same_prompts(tmp_path, tiny, template):
    library = open_with_transformers(tmp_path, template.add_to(tiny.files))
    system = Turn("system", "Be\nbrief. ")
    for user in (
        *(
            Turn("user", "Name it."),
            Turn("user", " x\n", "\n'y' \"z\"\n\n"),
            Turn("user", "🙂", "\\n"),
        ),
    ):
        earlier = (Turn("user", "Hi", "there"), Turn("assistant", " Hello {{ 1 }}\n"))
        for turns in ((user,), (system, user), (*earlier, user), (system, *earlier, user)):
            ids = template.prompt_ids(tiny, turns)
            assert theirs(library, turns, add_generation_prompt=True) == ids


@ALL
def test_transformers_renders_a_whole_conversation_as_training_sees_it(tmp_path, tiny, template):
    library = open_with_transformers(tmp_path, template.add_to(tiny.files))
    turns = (
        *(Turn("system", "Be brief."), Turn("user", "Add.", "1, 2"), Turn("assistant", "3")),
        *(Turn("user", "Again."), Turn("assistant", "It's 3.")),
    )
    ids, _ = template.encode(tiny, record(*turns))
    assert theirs(library, turns) == [*ids.tolist(), tiny.end_id]


@pytest.mark.slow
@ALL
def test_transformers_makes_the_same_prompt_of_every_record(tmp_path, shared, template):
    tokenizer = Tokenizer.from_folder(shared / "gpt2")
    library = open_with_transformers(tmp_path, template.add_to(read_vocabulary(shared / "gpt2")))
    for name in ("book-1100.json", "alpaca-eval-805-davinci003.json"):
        for row in json.loads((shared / "datasets" / name).read_text(encoding="utf-8")):
            user = Turn("user", row["instruction"], row.get("input", ""))
            turns = (user, Turn("assistant", row["output"]))
            prompt = template.prompt_ids(tokenizer, [user])
            assert theirs(library, [user], add_generation_prompt=True) == prompt
            ids, _ = template.encode(tokenizer, record(*turns))
            assert ids[: len(prompt)].tolist() == prompt
            assert theirs(library, turns) == [*ids.tolist(), tokenizer.end_id]


# In a model's folder


@ALL
def test_saved_and_loaded_it_is_the_same(tmp_path, tiny, template):
    template.save(tmp_path)
    assert Template.load(tmp_path) == template
    assert Template.load(tmp_path).hash == template.hash
    files = template.add_to(tiny.files)
    assert files["template.json"] == (tmp_path / "template.json").read_bytes()
    config = json.loads(files["tokenizer_config.json"])
    assert config["chat_template"] == template.chat_template()
    for name in tiny.files.keys() - {"tokenizer_config.json"}:
        assert files[name] == tiny.files[name]


def test_the_hash_tells_prompts_apart_and_not_names():
    hashes = [template.hash for template in TEMPLATES.values()]
    assert len(set(hashes)) == len(hashes)
    alpaca = BUILT_IN["alpaca"]
    assert replace(alpaca, name="mine").hash == alpaca.hash
    for piece in alpaca.to_dict().keys() - {"name"}:
        changed = replace(alpaca, **{piece: "." + getattr(alpaca, piece)})
        assert changed.hash != alpaca.hash, piece


def test_a_models_own_template_is_taken_and_another_refused(tmp_path):
    assert template_of(tmp_path) == BUILT_IN["alpaca"]
    assert template_of(tmp_path, "phi3") == BUILT_IN["phi3"]
    BUILT_IN["chatml"].save(tmp_path)
    assert template_of(tmp_path) == template_of(tmp_path, "chatml") == BUILT_IN["chatml"]
    with pytest.raises(TemplateError, match="'chatml'.*'phi3'.*leave out --template"):
        template_of(tmp_path, "phi3")


# One's own


def test_ones_own_from_json_and_toml(tmp_path):
    pieces = {"instruction": "F: {instruction}\n", "response": "C:\n", "input": "G: {input}\n"}
    in_json, in_toml = tmp_path / "turkish.json", tmp_path / "turkish.toml"
    in_json.write_text("\ufeff" + json.dumps(pieces), encoding="utf-8")
    lines = "".join(f'{name} = """\r\n{text}"""\r\n' for name, text in pieces.items())
    in_toml.write_bytes(lines.encode())
    assert find_template(str(in_json)) == find_template(str(in_toml))
    assert find_template(str(in_json)) == Template("turkish", **pieces)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"instuction": "x"}, "no piece 'instuction'; did you mean 'instruction'"),
        ({"response": None}, "response must be a text"),
        ({"instruction": ["x"]}, "instruction must be a text"),
        ({"instruction": "Do:\n"}, r"instruction holds \{instruction\} 0 times"),
        ({"instruction": "{instruction}{instruction}"}, "2 times, where 1 is right"),
        ({"preamble": "{system}"}, r"preamble holds \{system\} 1 times, where 0 is right"),
        ({"response": f"{END_TEXT}A:\n"}, "leave it out, the code ends each answer"),
        ({"response": "A:\ud800\n"}, "surrogate"),
        *(
            ({"response": text}, "must end in one line break after a visible character")
            for text in ("", "\n", "A:", "A: ", "A:\n\n", "A: \n", "A:\n ", "A:\r\n", "A:\t\n")
        ),
    ],
)
def test_a_template_that_cannot_be_right_is_refused_by_its_piece(tmp_path, change, complaint):
    path = tmp_path / "own.json"
    pieces = {"instruction": "{instruction}", "response": "\nA:\n"} | change
    path.write_text(json.dumps(pieces), encoding="utf-8")
    with pytest.raises(TemplateError, match=complaint) as error:
        Template.from_file(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.json", b"{", "not readable as a template"),
        ("x.toml", b"a = ", "not readable as a template"),
        ("x.json", b"\xff\xfe", "not readable as a template"),
        ("x.json", b"[" * 100_000, "not readable as a template"),
        ("x.json", b"[]", "expected an object"),
        ("x.json", b"{}", "instruction is missing"),
        ("x.json", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_template_is_refused(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TemplateError, match=complaint):
        find_template(str(tmp_path / name))


def test_a_misspelt_name_is_told_the_right_one():
    with pytest.raises(TemplateError, match="did you mean 'alpaca-two'"):
        find_template("Alpaca_two")


def test_the_preamble_is_a_part_of_its_own(tiny):
    ids, parts = BUILT_IN["alpaca"].encode(tiny, ask("Add."))
    assert as_bytes(tiny, ids[parts == PREAMBLE]).decode() == BUILT_IN["alpaca"].preamble


@pytest.mark.parametrize("module", ["segments", "template", "encoding"])
def test_the_worked_example_runs(module):
    command = [sys.executable, "-X", "utf8", "-m", f"gpt.{module}"]
    runs = [
        subprocess.run(command, cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "False" not in runs[0].stdout
    assert "DIFFER" not in runs[0].stdout
