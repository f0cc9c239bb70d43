"""The command line and the TOML file: what is given is what the run gets, or an error of one line.

Most of it is tried in this process; what a person sees of `scripts/train.py` is tried with it.
"""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from gpt.options import parse, parser_of, read_toml
from gpt.settings import GROUPS, SettingsError, TrainSettings, flag, type_name

ROOT = Path(__file__).parents[1]
FIELDS = {f.name: f for f in fields(TrainSettings)}


@pytest.fixture
def toml(tmp_path):
    """A function that writes a file of settings."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def parsed(*argv: object):
    return parse(parser_of("A description."), [str(argument) for argument in argv])


def refused(capsys, *argv: object) -> str:
    """The one line that says why, of a command line or of what it leads to; exit code 2."""
    with pytest.raises((SystemExit, SettingsError)) as caught:
        parsed(*argv)
    if isinstance(caught.value, SettingsError):
        assert caught.value.exit_code == 2
        message = str(caught.value)
    else:
        assert caught.value.code == 2
        message = capsys.readouterr().err.partition("\nusage:")[0].removeprefix("error: ")
    assert message and "\n" not in message
    return message


def script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/train.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


# ---- --help --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def help_text() -> str:
    return parser_of("A description.", "An end.").format_help()


@pytest.mark.parametrize("name", FIELDS)
def test_help_says_of_each_setting_what_it_is_and_its_default(help_text, name):
    f, default = FIELDS[name], getattr(TrainSettings(), name)
    kind = type_name(f).removesuffix(" | None")
    spelled = f"--[no-]{flag(name)[2:]}" if kind == "bool" else flag(name)
    [entry] = [part for part in help_text.split("\n  --") if part.split()[0] == spelled[2:]]
    told = without_blanks(entry)  # a line may end anywhere
    assert without_blanks(f.metadata["help"]) in told
    assert "|".join(f.metadata.get("choices", ())) in told
    if kind == "bool":
        assert ("(default:yes)" in told) == default
    elif default is not None:
        shown = " ".join(default) if isinstance(default, list) else default
        assert without_blanks(f"(default: {shown})") in told


def without_blanks(text: str) -> str:
    return "".join(text.split())


def test_help_is_laid_out_for_a_terminal(help_text):
    assert max(map(len, help_text.splitlines())) <= 100
    titles = [line[:-1] for line in help_text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == ["options", *GROUPS]
    assert "A description." in help_text and "An end." in help_text
    assert "==SUPPRESS==" not in help_text and "None" not in help_text and "%%" not in help_text


def test_help_comes_at_once_and_without_torch():
    code = """
import runpy, sys, time
sys.argv = ["train.py", "--help"]
try:
    runpy.run_path("scripts/train.py", run_name="__main__")
except SystemExit as ended:
    slow = {"torch", "matplotlib", "transformers", "safetensors"} & set(sys.modules)
    sys.exit(f"imported {slow}" if slow else ended.code or time.process_time() > 1)
"""  # the process's own time: others on the machine may take theirs
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--lr X" in ended.stdout and "usage: python scripts/train.py" in ended.stdout


# ---- flags ---------------------------------------------------------------------------------


def test_nothing_given_is_the_defaults():
    assert parsed() == (TrainSettings(), set())


OF_KIND = {
    "int": ["8"],
    "float": ["0.25"],
    "str": ["some name"],
    "list[str]": ["a.json", "b.json"],
    "bool": [],
}
READ = {
    "int": 8, "float": 0.25, "str": "some name", "list[str]": ["a.json", "b.json"], "bool": True,
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_a_flag_and_no_other_is_touched(name):
    kind = type_name(FIELDS[name]).removesuffix(" | None")
    parser = parser_of("")
    assert vars(parser.parse_args([flag(name), *OF_KIND[kind]])) == {
        "config": None,
        name: READ[kind],
    }
    if kind == "bool":
        off = vars(parser.parse_args(["--no-" + flag(name)[2:]]))
        assert off == {"config": None, name: False}
    else:
        joined = f"{flag(name)}={OF_KIND[kind][0]}"
        value = [READ[kind][0]] if kind == "list[str]" else READ[kind]
        assert vars(parser.parse_args([joined])) == {"config": None, name: value}


def test_compile_may_stand_alone_and_be_what_it_was_in_a_file(capsys, toml):
    for argv, meant in (
        ((), "auto"), (("--compile",), "always"), (("--no-compile",), "never"),
        (("--compile", "--resume"), "always"), (("--compile", "auto"), "auto"),
        (("--compile=never",), "never"), (("--no-compile", "--compile"), "always"),
    ):  # fmt: skip
        assert parsed(*argv)[0].compile == meant
    for text, meant in (("true", "always"), ("false", "never"), ('"auto"', "auto")):
        assert parsed("--config", toml(f"compile = {text}"))[0].compile == meant
    assert parsed("--config", toml("compile = true"), "--no-compile")[0].compile == "never"
    assert "it is one of auto, always, never" in refused(capsys, "--compile", "yes")


def test_the_last_of_two_is_taken():
    assert parsed("--lr", "1", "--lr", "2", "--resume", "--no-resume")[0] == TrainSettings(lr=2.0)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--learning_rat", "--"),
        ("--batchsize", "--batch-size"),
        ("--batch_size", "--batch-size"),
        ("--epoch", "--epochs"),
        ("--overwrit", "--overwrite"),
        ("--no-overwrit", "--no-overwrite"),
        ("--weight-deacy", "--weight-decay"),
    ],
)
def test_a_mistyped_flag_gets_a_hint(capsys, typed, meant):
    message = refused(capsys, typed, "1e-3")
    assert message.startswith(f"there is no {typed}")
    assert meant == "--" or message.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    "argv",
    [
        ("--lr", "fast"),
        ("--lr", "1,5"),
        ("--lr",),
        ("--lr", "-1"),
        ("--lr", "-1e-3"),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--lr", "1e-999"),
        ("--lr=-inf",),
        ("--batch-size", "8.5"),
        ("--batch-size", "0"),
        ("--batch-size", "9" * 5000),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--data",),
        ("--data", ""),
        ("--device", "gpu"),
        ("--objective", "pretraining"),
        ("--resume=yes",),
        ("--resume", "--overwrite"),
        ("--val-fraction", "0.5", "--test-fraction", "0.5"),
        ("--n-layer", "12"),
        ("--recipe", "cook"),
        ("--recipe", "book", "--val-fraction", "0.2"),
        ("gpt2",),
        ("--config", "nowhere.toml"),
        ("--config",),
    ],
)
def test_a_faulty_command_line_is_refused_in_one_line(capsys, argv):
    message = refused(capsys, *argv)
    assert any(argument.partition("=")[0] in message for argument in argv)


# ---- the file ------------------------------------------------------------------------------


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(toml):
    path = toml('lr = 5e-5\nbatch-size = 16\ndata = ["mine.json"]\nrespond = false\n')
    settings, given = parsed("--config", path, "--lr", "3e-5", "--data", "a.json", "b.json")
    assert settings == TrainSettings(
        lr=3e-5, batch_size=16, data=["a.json", "b.json"], respond=False
    )
    assert given == {"lr", "batch_size", "data", "respond"}
    assert parsed("--config", path)[0].data == ["mine.json"]
    assert parsed("--config", path, "--respond")[0].respond


def test_a_recipe_stands_between_the_file_and_the_defaults(toml):
    path = toml('recipe = "book"\nseed = 7\n')
    settings, _ = parsed("--config", path, "--epochs", "3")
    assert (settings.seed, settings.epochs, settings.schedule) == (7, 3.0, "constant")
    assert parsed("--config", path, "--recipe", "default")[0] == TrainSettings(seed=7)
    assert parsed("--config", toml("seed = 7"), "--recipe", "book")[0].seed == 7


@pytest.mark.parametrize("key", ["batch-size", "batch_size", '"batch-size"'])
def test_a_key_may_have_hyphens_or_underscores(toml, key):
    assert read_toml(toml(f"{key} = 16")) == {"batch_size": 16}


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_a_line_of_the_file(toml, name):
    kind = type_name(FIELDS[name]).removesuffix(" | None")
    value = FIELDS[name].metadata.get("choices", {"int": [8], "float": [0.25], "bool": [True],
             "str": ["auto"], "list[str]": [["a.json"]]}[kind])[-1]  # fmt: skip
    written = str(value).lower() if kind == "bool" else str(value).replace("'", '"')
    written = f'"{value}"' if kind == "str" else written
    assert read_toml(toml(f"{flag(name)[2:]} = {written}")) == {name: value}


def test_an_empty_file_a_byte_order_mark_crlf_and_comments_are_fine(toml):
    assert read_toml(toml("")) == {}
    text = b'\xef\xbb\xbf# mine\r\nlr = 5e-5  # slow\r\n\r\nout = "\xc3\xbc"\r\n'
    assert read_toml(toml(text)) == {"lr": 5e-5, "out": "ü"}


def test_a_whole_number_is_a_rate_too_and_a_rate_no_count(capsys, toml):
    assert parsed("--config", toml("epochs = 3"))[0].epochs == 3
    path = toml("batch-size = 8.0")
    assert refused(capsys, "--config", path).startswith(f"{path}: --batch-size must be a whole ")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('lr = "5e-5"', "lr"),
        ("lr = true", "lr"),
        ("lr = nan", "lr"),
        ("lr = -inf", "lr"),
        ("lr = -1e-3", "lr"),
        ("lr = 0", "lr"),
        ("lr = 1" + 400 * "0", "lr"),
        ("lr = [5e-5]", "lr"),
        ("lr = 1979-05-27", "lr"),
        ("batch-size = true", "batch-size"),
        ("batch-size = 8.5", "batch-size"),
        ("batch-size = 0", "batch-size"),
        ("seed = 99999999999999999999", "seed"),
        ("resume = 1", "resume"),
        ('resume = "yes"', "resume"),
        ('data = "mine.json"', "data"),
        ("data = [1, 2]", "data"),
        ("data = []", "data"),
        ("data = {file = 'x'}", "data"),
        ("model = 3", "model"),
        ("model = ['gpt2']", "model"),
        ('model = ""', "model"),
        ('schedule = "cosin"', "schedule"),
        ("schedule = 3", "schedule"),
        ('device = "gpu"', "device"),
        ('recipe = "cook"', "recipe"),
        ("recipe = ['book']", "recipe"),
        ("recipe = {name = 'book'}", "recipe"),
        ("val-fraction = 1.5", "val-fraction"),
        ("[lr]\nvalue = 5e-5", "lr"),
    ],
)
def test_a_value_that_cannot_be_meant_names_the_file_and_the_setting(capsys, toml, text, name):
    path = toml(text)
    message = refused(capsys, "--config", path)
    assert message.startswith(f"{path}: --{name}") and len(message) < len(str(path)) + 150


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat = 1", "there is no setting learning_rat"),
        ("batchsize = 1", "there is no setting batchsize: did you mean batch_size?"),
        ("Epochs = 1", "there is no setting Epochs: did you mean epochs?"),
        ("[train]\nlr = 1", "there is no setting train"),
        ("config = 'other.toml'", "there is no setting config"),
        ("zzz = 1", "there is no setting zzz (train.py --help lists them all)"),
        ("batch-size = 1\nbatch_size = 1", "batch_size is given twice"),
        ("lr = 1\nlr = 2", "not readable as TOML"),
        ("lr = ", "not readable as TOML"),
        ("lr = 5e-5, 3", "not readable as TOML"),
        ("just words", "not readable as TOML"),
        ("x = " + "[" * 5000, "not readable as TOML"),
        ("seed = " + "9" * 5000, "not readable as TOML"),
        (b"out = '\xff'", "not readable as TOML"),
        ("lr = 1".encode("utf-16"), "not readable as TOML"),
    ],
)
def test_a_file_that_is_not_one_of_settings_says_so(capsys, toml, text, said):
    path = toml(text)
    assert refused(capsys, "--config", path).startswith(f"{path}: {said}")


def test_a_file_that_is_not_there_or_is_a_folder_says_so(capsys, tmp_path):
    assert "No such file" in refused(capsys, "--config", tmp_path / "nowhere.toml")
    assert str(tmp_path) in refused(capsys, "--config", tmp_path)


def test_a_file_and_flags_are_judged_together(capsys, toml):
    half = toml("val-fraction = 0.95")  # more than is left beside the default of the test
    assert parsed("--config", half, "--test-fraction", "0.01")[0].val_fraction == 0.95
    assert "leave none" in refused(capsys, "--config", half)
    resume = toml("resume = true")
    assert "give one" in refused(capsys, "--config", resume, "--overwrite")
    assert parsed("--config", resume, "--overwrite", "--no-resume")[0].overwrite
    layers = toml("n-layer = 3")
    assert "would be ignored" in refused(capsys, "--config", layers)
    assert parsed("--config", layers, "--from-scratch")[0].n_layer == 3


# ---- the script ----------------------------------------------------------------------------


def test_the_script_refuses_in_one_line_with_exit_code_2(toml):
    for arguments in (
        ["--lr", "-1"],
        ["--batch-size", "0"],
        ["--warmup", "nan"],
        ["--schedule", "cosin"],
        ["--resume", "--overwrite"],
        ["--min-lr", "0.2", "--schedule", "constant"],
        ["--config", toml("batchsize = 8")],
    ):
        ended = script(*arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), arguments
        assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
        assert arguments[0] in ended.stderr or "did you mean batch_size?" in ended.stderr


def test_the_script_refuses_what_argparse_refuses_with_a_second_line_of_where_to_look():
    for arguments in (["--learning_rat", "1"], ["--batch-size", "8.5"], ["stray"]):
        ended = script(*arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), arguments
        first, second = ended.stderr.splitlines()
        assert first.startswith("error: ") and second == "usage: python scripts/train.py --help"
