"""Settings: each is one that a person could mean, or is refused in one line that names it."""

import json
import math
import sys
from dataclasses import fields, replace
from itertools import pairwise

import pytest

from gpt.setting_rules import check, idle
from gpt.settings import (
    GROUPS,
    MAY_CHANGE,
    RECIPES,
    SettingsError,
    TrainSettings,
    combine,
    default_lr,
    default_out,
    flag,
    names,
    type_name,
)

FIELDS = {f.name: f for f in fields(TrainSettings)}
KINDS = {name: type_name(f).removesuffix(" | None") for name, f in FIELDS.items()}
NUMBERS = [name for name, kind in KINDS.items() if kind in ("int", "float")]
MAY_BE_NONE = [name for name, f in FIELDS.items() if type_name(f).endswith(" | None")]
CHOICES = {name: f.metadata["choices"] for name, f in FIELDS.items() if "choices" in f.metadata}


def refusal(given, **named) -> str:
    """The message, which is one line, and an error of usage."""
    with pytest.raises(SettingsError) as caught:
        check(TrainSettings(**given), **named)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message and len(message) < 200, message
    return message


def accepted(**given) -> TrainSettings:
    settings, names_given = combine(given)
    check(settings, names_given)
    return settings


# ---- what every setting has ----------------------------------------------------------------


def test_the_defaults_are_settings_that_a_run_accepts():
    check(TrainSettings(), ())


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_group_a_help_on_one_line_and_a_type_that_is_checked(name):
    metadata = FIELDS[name].metadata
    assert metadata["group"] in GROUPS
    assert metadata["help"].strip() and "\n" not in metadata["help"]
    assert KINDS[name] in ("int", "float", "bool", "str", "list[str]")


def test_every_group_has_settings_and_no_two_settings_have_one_flag():
    assert {f.metadata["group"] for f in FIELDS.values()} == set(GROUPS)
    flags = [flag(name) for name in names()]
    assert len(set(flags)) == len(flags) == len(FIELDS)
    assert all("_" not in f for f in flags)


def test_lists_are_not_shared_between_settings():
    TrainSettings().data.append("another.json")
    assert TrainSettings().data == ["data/instructions.json"]


def test_settings_survive_the_json_that_a_run_keeps_them_in():
    for settings in (
        TrainSettings(),
        combine({"recipe": "book"})[0],
        accepted(data=["ü.json", "b.json"], lr=3e-7, eps=1e-12, max_steps=5, fields="output=cevap"),
    ):
        assert TrainSettings(**json.loads(json.dumps(settings.to_dict()))) == settings


def test_what_may_change_on_a_resume_is_nothing_that_makes_it_another_run():
    assert set(names()) >= MAY_CHANGE
    decides = "objective template max_length seed batch_size lr dropout order prompt_loss_weight"
    assert not MAY_CHANGE & set(decides.split())


# ---- one faulty setting --------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_a_finite_number_and_none_is_negative(name):
    for value in (math.nan, math.inf, -math.inf, -1, -0.5, "8", True, [1], {}):
        assert refusal({name: value}).startswith(f"{flag(name)} must be ")


UNBOUND = [name for name in NUMBERS if KINDS[name] == "int" and name not in ("seed", "threads")]


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - set(UNBOUND)))
def test_a_number_that_nothing_can_hold_is_refused_and_not_printed_whole(name):
    assert flag(name) in refusal({name: 10**400})


@pytest.mark.parametrize("name", [name for name in NUMBERS if KINDS[name] == "int"])
def test_a_count_is_a_whole_number(name):
    for value in (2.0, 2.5):
        assert refusal({name: value}) == f"{flag(name)} must be a whole number, not {value}"


ZERO_IS_MEANT = {
    "patience", "samples", "seed", "weight_decay", "clip", "val_fraction", "test_fraction",
    "dropout", "lora_dropout", "beta1", "beta2", "warmup", "min_lr", "prompt_loss_weight",
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_accepted_where_it_means_something_and_nowhere_else(name):
    zero = 0 if KINDS[name] == "int" else 0.0
    if name in ZERO_IS_MEANT:
        check(TrainSettings(**{name: zero}))
    else:
        assert refusal({name: zero}).startswith(f"{flag(name)} must be ")


@pytest.mark.parametrize(
    ("name", "least"), [("max_length", 2), ("n_ctx", 2), ("batch_size", 1), ("threads", 1)]
)
def test_the_least_value_is_accepted_and_what_is_below_it_refused(name, least):
    more = {"from_scratch": True}
    check(TrainSettings(**{name: least}, **more))
    assert str(least) in refusal({name: least - 1, **more})


@pytest.mark.parametrize(
    ("name", "may_be_1"),
    [
        *((name, True) for name in ("warmup", "min_lr", "prompt_loss_weight")),
        *((name, False) for name in ("val_fraction", "test_fraction", "dropout", "beta1", "beta2")),
    ],
)
def test_a_share_is_at_most_1_and_some_must_leave_a_rest(name, may_be_1):
    for value in (1, 1.0):
        if may_be_1:
            check(TrainSettings(**{name: value}))
        else:
            assert "below 1" in refusal({name: value})
    assert flag(name) in refusal({name: 1.0000001})
    nothing = {"val_fraction": 0.0, "test_fraction": 0.0}
    check(TrainSettings(**(nothing | {name: math.nextafter(1, 0)})))


def test_a_seed_is_one_that_torch_takes():
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(accepted(seed=2**63 - 1).seed)
    assert "--seed" in refusal({"seed": 2**63})


@pytest.mark.parametrize("name", MAY_BE_NONE)
def test_what_a_run_may_choose_by_itself_may_be_left_open(name):
    check(replace(TrainSettings(), **{name: None}))


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in MAY_BE_NONE])
def test_nothing_else_may(name):
    assert refusal({name: None}).startswith(f"{flag(name)} must be ")


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name] == "bool"])
def test_a_switch_is_true_or_false(name):
    for value in (1, 0, "true", "", [True]):
        assert refusal({name: value}).startswith(f"{flag(name)} must be true or false, not ")


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name] == "str"])
def test_a_text_is_a_text_and_not_empty(name):
    for value in ("", 3, True, ["x"]):
        assert refusal({name: value}).startswith(f"{flag(name)} must be a text, not ")


@pytest.mark.parametrize("value", ["a.json", [1], [""], [["a.json"]], ("a.json",)])
def test_data_is_a_list_of_names(value):
    assert refusal({"data": value}).startswith("--data must be a list of texts, not ")


def test_data_is_not_empty():
    assert refusal({"data": []}) == "--data: no file is given"


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_those_and_a_mistyped_one_gets_a_hint(name):
    for choice in CHOICES[name]:
        mistyped = choice[:-1] + "\u0131"
        assert refusal({name: mistyped}).endswith(f"did you mean {choice}?")
    assert ", ".join(CHOICES[name]) in refusal({name: "1234"})
    assert CHOICES[name][0] in refusal({name: CHOICES[name][0].upper()})


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", "0", "meta", "ü"])
def test_a_device_that_no_machine_has_is_refused_before_anything_is_loaded(device):
    assert refusal({"device": device}).startswith(f"--device {device}: it is auto, cpu, ")


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:11"])
def test_a_device_that_some_machine_has_is_left_to_this_one(device):
    check(TrainSettings(device=device))


# ---- settings that do not go together ------------------------------------------------------


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.95, 0.1), (0.05, 0.95), (0.999, 0.001)])
def test_fractions_that_leave_nothing_to_train_on_are_refused(val, test):
    message = refusal({"val_fraction": val, "test_fraction": test})
    assert message.startswith(f"--val-fraction {val} and --test-fraction {test} leave none")


def test_fractions_that_leave_little_are_not():
    accepted(val_fraction=0.5, test_fraction=0.49)
    accepted(val_fraction=0.95, test_fraction=0.0)


def test_a_fraction_that_the_run_does_not_read_is_in_nobodys_way():
    accepted(objective="pretrain", val_fraction=0.95)  # there is no test


def test_going_on_and_replacing_exclude_each_other():
    message = refusal({"resume": True, "overwrite": True})
    assert "--resume" in message and "--overwrite" in message


def test_channels_that_heads_cannot_share_are_refused_for_a_new_model():
    message = refusal({"from_scratch": True, "n_embd": 100, "n_head": 3})
    assert "--n-embd 100" in message and "--n-head 3" in message
    accepted(from_scratch=True, n_embd=99, n_head=3)


IGNORED = [
    *(({"objective": "pretrain"}, {name: value}) for name, value in (
        ("template", "alpaca"), ("fields", "output=cevap"), ("skip_bad", True),
        ("overlong", "drop"), ("split", "prompt"), ("prompt_loss_weight", 0.5),
        ("test_fraction", 0.1), ("order", "shuffled"), ("packed", True), ("respond", True),
    )),
    *(({"from_scratch": False}, {name: 8}) for name in ("n_layer", "n_head", "n_embd", "n_ctx")),
    *(({"lora_rank": None}, {name: value}) for name, value in (
        ("lora_alpha", 8.0), ("lora_dropout", 0.1), ("lora_targets", ["c_attn"]),
        ("lora_rs", True), ("quantize", "none"),
    )),
    ({"schedule": "constant"}, {"min_lr": 0.5}),
    ({"weight_decay": 0.0}, {"decay": "everything"}),
    ({"max_steps": 10}, {"epochs": 3.0}),
    ({"split": "book"}, {"val_fraction": 0.2}),
    ({"split": "book"}, {"test_fraction": 0.2}),
    ({"recipe": "book"}, {"val_fraction": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("because", "ignored"), IGNORED)
def test_a_setting_that_nothing_would_read_is_refused_if_it_was_given(because, ignored):
    settings, given = combine(because | ignored)
    [name] = ignored
    with pytest.raises(SettingsError, match=f"^{flag(name)} would be ignored: ") as caught:
        check(settings, given)
    assert "\n" not in str(caught.value)
    check(settings, set(given) - {name})  # by a recipe or a default it may stand there


@pytest.mark.parametrize(("because", "ignored"), IGNORED)
def test_the_same_setting_is_accepted_where_it_is_read(because, ignored):
    needed = {"from_scratch": True} if set(ignored) <= {"n_layer", "n_head", "n_embd"} else {}
    needed = {"from_scratch": True} if "n_ctx" in ignored else needed
    if ignored.keys() & {"lora_alpha", "lora_dropout", "lora_targets", "lora_rs", "quantize"}:
        needed = {"lora_rank": 4}
    settings, given = combine(ignored | needed)
    check(settings, given)


def test_what_is_called_idle_are_settings():
    everything = {"objective": "pretrain", "schedule": "constant", "weight_decay": 0.0}
    assert set(idle(TrainSettings(**everything, max_steps=1))) <= set(names())
    of_adapters = {"lora_alpha", "lora_dropout", "lora_targets", "lora_rs", "quantize"}
    of_new_models = {"n_layer", "n_head", "n_embd", "n_ctx"}
    assert idle(TrainSettings()).keys() == of_new_models | of_adapters | {"cpu_offload"}
    assert idle(TrainSettings(lora_rank=8)).keys() == of_new_models | {"cpu_offload"}


@pytest.mark.parametrize("objective", ["instruct", "pretrain"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_taken_as_it_is(recipe, objective):
    accepted(recipe=recipe, objective=objective)


# ---- where a value comes from --------------------------------------------------------------


def test_the_first_source_wins_then_the_next_then_the_recipe_then_the_default():
    flags = {"lr": 1.0, "seed": 1}
    file = {"recipe": "book", "lr": 2.0, "clip": 2.0, "epochs": 2.5}
    settings, given = combine(flags, file)
    assert given == {"recipe", "lr", "seed", "clip", "epochs"}
    assert (settings.lr, settings.seed) == (1.0, 1)  # the flag, over the file and the recipe
    assert (settings.clip, settings.epochs) == (2.0, 2.5)  # the file, over the recipe
    assert settings.schedule == "constant"  # the recipe, over the default
    assert settings.beta2 == TrainSettings().beta2  # the default


def test_a_flag_takes_another_recipe_than_the_file():
    assert combine({"recipe": "default"}, {"recipe": "book"})[0] == TrainSettings()


BOOK = {
    "recipe": "book",
    "lr": 5e-5,
    "weight_decay": 0.1,
    "decay": "everything",
    "schedule": "constant",
    "warmup": 0.0,
    "clip": 0.0,
    "epochs": 2.0,
    "batch_size": 8,
    "order": "shuffled",
    "drop_last": True,
    "prompt_loss_weight": 1.0,
    "split": "book",
    "dropout": 0.0,
    "template": "alpaca",
    "seed": 123,
}


def test_the_book_s_recipe_is_what_the_book_says_and_nothing_else_is_changed():
    settings, given = combine({"recipe": "book"})
    assert settings == TrainSettings(**BOOK)
    assert given == {"recipe"}
    # torch.optim.AdamW's own, which the book leaves as they are.
    assert (settings.beta1, settings.beta2, settings.eps) == (0.9, 0.999, 1e-8)


@pytest.mark.parametrize("name", sorted(set(BOOK) - {"recipe"}))
def test_a_given_setting_wins_over_the_recipe(name):
    other = getattr(TrainSettings(), name)
    settings, _ = combine({"recipe": "book", name: other})
    assert settings == TrainSettings(**(BOOK | {name: other}))


@pytest.mark.parametrize("recipe", ["bok", "", 5, None, ["book"], {}])
def test_a_recipe_that_is_not_there_is_refused_whatever_it_is(recipe):
    with pytest.raises(SettingsError, match="--recipe"):
        combine({"recipe": recipe})


# ---- what a run decides by itself ----------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "gpt2", "data": ["data/instructions.json"]}, "gpt2-instructions"),
        ({"model": "checkpoints/mini/", "data": ["a/b.jsonl.gz", "c.json"]}, "mini-b"),
        ({"model": "checkpoints/run/best", "data": ["x.csv"]}, "run-x"),
        ({"model": "checkpoints/run/last", "data": ["x.csv"]}, "run-x"),
        ({"model": "owner/name@main", "data": ["x.csv"]}, "name-main-x"),
        ({"model": "gpt2", "data": ["x.csv"], "from_scratch": True}, "new-x"),
        ({"model": "gpt2", "data": ["prepared/"]}, "gpt2-prepared"),
        ({"model": "gpt2", "data": ["."]}, "gpt2-here"),
        ({"model": ".", "data": ["x.csv"]}, "here-x"),
        ({"model": "best", "data": ["x.csv"]}, "here-x"),
        ({"model": "..", "data": ["x.csv"]}, "above-x"),
        ({"model": "../last", "data": [".."]}, "above-above"),
    ],
)
def test_a_run_is_named_after_its_model_and_its_data(tmp_path, monkeypatch, given, expected):
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert default_out(TrainSettings(**given)) == f"checkpoints/{expected}"


def test_the_rate_is_the_published_one_at_gpt2_s_width_and_falls_with_the_width():
    tuning, new, adapter = (
        TrainSettings(**given) for given in ({}, {"from_scratch": True}, {"lora_rank": 16})
    )
    assert (default_lr(768, tuning), default_lr(768, new)) == (5e-5, 6e-4)
    widths = (8, 256, 768, 1024, 1280, 1600)
    for settings in (tuning, new, adapter):
        rates = [default_lr(width, settings) for width in widths]
        assert all(a >= b > 0 for a, b in pairwise(rates)) and rates[0] > rates[-1]
        assert all(rate == float(f"{rate:.0e}") for rate in rates)  # one digit: no false precision
    assert (default_lr(256, tuning), default_lr(1024, tuning)) == (9e-5, 4e-5)
    assert (default_lr(384, new), default_lr(1536, new)) == (1e-3, 3e-4)
    assert default_lr(256, adapter) == 2e-3 > default_lr(256, tuning)


def test_the_largest_finite_number_is_a_number():
    check(TrainSettings(clip=sys.float_info.max))
