"""An adapter's folder is PEFT's, goes with one base alone, and is whole or refused by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from safetensors.torch import load_file, save_file

from gpt.adapter_config import AdapterError, Base, read_adapter
from gpt.adapters import (
    adapt,
    base_of_name,
    config_of,
    fingerprint,
    load_adapted,
    merge_folder,
    save_adapter,
    template_folder,
    tensors_of,
)
from gpt.download import HUB, DownloadError
from gpt.errors import UserError
from gpt.lora import LoraConfig, LoraProjection, lora_layers, lora_of
from gpt.model import GPT, Projection
from gpt.quantize import NF4Projection
from gpt.template import BUILT_IN
from gpt.tensor_files import WeightsError, open_safetensors
from gpt.tokenizer import learn_merges, tiny_vocabulary
from gpt.weights import load_model, save_model
from tests.runs import run_script
from tests.tiny import TINY, random_ids, random_model

WIDE = replace(TINY, n_embd=32)
IDS = random_ids(3, 12)
VOCABULARY = tiny_vocabulary(learn_merges("the cat sat on the mat", 8))


@pytest.fixture
def base(tmp_path) -> Path:
    save_model(random_model(WIDE), tmp_path / "base")
    return tmp_path / "base"


def adapter_on(folder: Path, quantize="none", seed=5, **changes) -> GPT:
    """A model with an adapter that has learnt something."""
    model = load_model(folder)
    about = replace(
        base_of_name(str(folder), folder), fingerprint=fingerprint(model), quantize=quantize
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapt(model, LoraConfig(**({"rank": 4} | changes)), about)
        for layer in lora_layers(model).values():
            nn.init.normal_(layer.lora_B, std=0.1)
    return model


@pytest.fixture
def saved(base, tmp_path) -> Path:
    save_adapter(adapter_on(base), tmp_path / "adapter")
    return tmp_path / "adapter"


def change(folder: Path, name="adapter_config.json", **fields) -> None:
    path = folder / name
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | fields), encoding="utf-8")


def refusal(attempt, kind=UserError) -> str:
    with pytest.raises(kind) as caught:
        attempt()
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- round trips ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": 1},
        {"rank": 16, "alpha": 5.0, "rank_stabilised": True, "dropout": 0.25},
        {"targets": ("attn.c_proj",)},
        {"targets": ("0.attn.c_proj", "mlp.c_fc")},
        {"quantize": "nf4"},
    ],
)
def test_what_is_saved_comes_back_bit_for_bit(base, tmp_path, changes):
    model = adapter_on(base, **changes)
    save_adapter(model, tmp_path / "adapter")
    again = load_model(tmp_path / "adapter")
    assert torch.equal(again(IDS), model(IDS))
    ours, theirs = lora_of(model), lora_of(again)
    assert theirs == replace(ours, alpha=theirs.alpha) and theirs.scale == ours.scale
    assert again.base == model.base
    assert {p.requires_grad for p in tensors_of(again).values()} == {True}
    trained = [n for n, p in again.named_parameters() if p.requires_grad]
    assert sorted(trained) == sorted(tensors_of(again))
    assert not again.training
    kinds = {type(layer.base) for layer in lora_layers(again).values()}
    assert kinds == {NF4Projection if changes.get("quantize") else Projection}


def test_a_run_s_folder_means_its_best_adapter(saved, tmp_path):
    (tmp_path / "run").mkdir()
    saved.rename(tmp_path / "run" / "best")
    model = load_model(tmp_path / "run")
    assert isinstance(model.h[0].mlp.c_fc, LoraProjection)
    assert config_of(tmp_path / "run" / "best") == WIDE


def test_loading_draws_no_random_numbers(saved):
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_halves_the_adapter_too_and_answers_much_the_same(base, saved, tmp_path):
    model, half = load_model(saved), load_model(saved, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half(IDS).float(), model(IDS), rtol=0.1, atol=0.5)

    save_adapter(adapter_on(base, quantize="nf4"), tmp_path / "q")
    model, half = load_model(tmp_path / "q"), load_model(tmp_path / "q", dtype=torch.bfloat16)
    ours, theirs = model.h[0].mlp.c_fc.base, half.h[0].mlp.c_fc.base
    assert torch.equal(ours.dequantised(), theirs.dequantised())  # its scales are as exact
    torch.testing.assert_close(half(IDS).float(), model(IDS), rtol=0.1, atol=0.5)


def test_an_adapter_is_not_rounded_because_its_base_is_in_half_precision(base, saved, tmp_path):
    half = tmp_path / "half"
    save_model(load_model(base).to(torch.float16), half)
    save_adapter(adapter_on(half), tmp_path / "on_half")
    adapted = load_model(tmp_path / "on_half")
    assert {p.dtype for p in adapted.parameters()} == {torch.float32}
    learnt = open_safetensors(tmp_path / "on_half" / "adapter_model.safetensors").read(A)
    assert torch.equal(adapted.h[0].attn.c_attn.lora_A, learnt)


def test_vocabulary_and_template_are_the_adapter_s_and_the_rest_the_base_s(tmp_path):
    model = random_model(replace(WIDE, vocab_size=len(json.loads(VOCABULARY["vocab.json"]))))
    model.vocabulary = VOCABULARY
    save_model(model, tmp_path / "base")
    tuned = adapter_on(tmp_path / "base")
    tuned.vocabulary = BUILT_IN["phi3"].add_to(tuned.vocabulary)
    save_adapter(tuned, tmp_path / "adapter")
    assert load_model(tmp_path / "adapter").vocabulary == tuned.vocabulary
    assert "template.json" not in load_model(tmp_path / "base").vocabulary
    assert template_folder(tmp_path / "adapter") == tmp_path / "adapter"
    (tmp_path / "adapter" / "template.json").unlink()  # as PEFT's own folders have none
    assert template_folder(tmp_path / "adapter") == tmp_path / "base"


def test_a_model_and_an_adapter_replace_each_other_whole(base, saved, tmp_path):
    model = load_model(saved)
    save_adapter(model, base.parent / "other")
    save_model(random_model(WIDE, seed=3), base.parent / "other")
    assert not list((base.parent / "other").glob("adapter*"))
    assert isinstance(load_model(base.parent / "other").h[0].mlp.c_fc, Projection)
    save_adapter(model, base.parent / "other")
    assert not (base.parent / "other" / "model.safetensors").exists()
    assert torch.equal(load_model(base.parent / "other")(IDS), model(IDS))


# ---- its base -------------------------------------------------------------------------------


def test_the_fingerprint_is_of_the_numbers_and_sizes_and_not_of_the_files(base, tmp_path):
    model = load_model(base)
    known = fingerprint(model)
    save_model(model.half(), tmp_path / "half")
    half = fingerprint(load_model(tmp_path / "half"))
    assert half == fingerprint(load_model(tmp_path / "half", dtype=torch.float32)) != known
    path = base / "model.safetensors"
    state = load_file(path)
    save_file({f"transformer.{n}": t for n, t in reversed(state.items())}, path)
    assert fingerprint(load_model(base)) == known
    for changes in ({"n_head": 4}, {"layer_norm_epsilon": 1e-6}):
        other = GPT(replace(WIDE, **changes))
        other.load_state_dict(load_model(base).state_dict())
        assert fingerprint(other) != known


def test_one_step_of_training_on_anything_makes_another_base(base):
    model = load_model(base)
    known = fingerprint(model)
    for name, parameter in model.named_parameters():
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter += 1e-6 * torch.randn_like(parameter)
        assert fingerprint(model) != known, name
        parameter.data = before
    assert fingerprint(model) == known


def test_another_base_of_that_shape_is_refused_with_both_fingerprints(base, saved, tmp_path):
    save_model(random_model(WIDE, seed=1), tmp_path / "other")
    message = refusal(lambda: load_model(saved, base=tmp_path / "other"), AdapterError)
    for folder in (base, tmp_path / "other"):
        assert fingerprint(load_model(folder)) in message
    assert str(saved) in message and str(tmp_path / "other") in message
    shutil.rmtree(base)
    (tmp_path / "other").rename(base)  # in the very place that it names
    assert "another base model" in refusal(lambda: load_model(saved), AdapterError)


def test_a_base_that_was_moved_is_asked_for_and_can_be_given(base, saved, tmp_path):
    expected = load_model(saved)(IDS)
    base.rename(tmp_path / "moved")
    message = refusal(lambda: load_model(saved), AdapterError)
    assert str(base) in message and "--model BASE gives" in message
    model = load_model(saved, base=tmp_path / "moved")
    assert torch.equal(model(IDS), expected)
    assert model.base.name == str((tmp_path / "moved").resolve())
    with pytest.raises(DownloadError, match="nowhere"):
        load_model(saved, base=tmp_path / "nowhere")


def test_a_base_without_an_adapter_and_an_adapter_as_a_base_are_refused(base, saved, tmp_path):
    assert "is no adapter" in refusal(lambda: load_model(base, base=base), WeightsError)
    shutil.copytree(saved, tmp_path / "second")
    message = refusal(lambda: load_model(tmp_path / "second", base=saved), AdapterError)
    assert "itself an adapter" in message and "merge" in message


def test_the_base_is_remembered_as_peft_finds_it_too(base, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(base, run / "best")
    assert base_of_name(str(run), run / "best").name == str((run / "best").resolve())
    assert base_of_name("gpt2", tmp_path) == Base(HUB["gpt2"].repo, HUB["gpt2"].revision)
    assert base_of_name("owner/name@v2", tmp_path) == Base("owner/name", "v2")
    assert base_of_name("owner/name", tmp_path) == Base("owner/name", None)


def test_peft_s_names_for_a_base_on_the_hub_are_understood(saved, monkeypatch):
    asked = []

    def find(name):
        asked.append(str(name))
        raise DownloadError("no network")

    monkeypatch.setattr("gpt.adapters.find_model", find)
    for name, revision in (("gpt2", None), ("gpt2", "main"), ("owner/name", "v2")):
        change(saved, base_model_name_or_path=name, revision=revision)
        refusal(lambda: load_adapted(saved), AdapterError)
    assert asked == ["gpt2", "openai-community/gpt2@main", "owner/name@v2"]


# ---- faults ---------------------------------------------------------------------------------

A = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"


def rewrite(folder: Path, changes) -> None:
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    save_file({n: t for n, t in (state | changes).items() if t is not None}, path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({A: None}, r"h\.0\.attn\.c_attn\.lora_A is missing; it should be \[4, 32\]"),
        ({A.replace("lora_A", "lora_B"): None}, r"c_attn\.lora_B is missing"),
        ({A.replace("h.0", "h.2"): torch.ones(4, 32)}, r"h\.2\.attn.* is no part of this"),
        ({"base_model.model.lm_head.weight": torch.ones(97, 32)}, "lm_head.* is no part of this"),
        ({"lm_head.weight": torch.ones(97, 32)}, "lm_head.* is no part of this"),
        ({A.replace("lora_A", "lora_magnitude_vector"): torch.ones(96)}, "no part of this"),
        ({A: torch.ones(8, 32)}, r"has shape \[8, 32\], .* makes it \[4, 32\]"),
        ({A: torch.ones(32, 4)}, r"has shape \[32, 4\].* transposed"),
        ({A: torch.full((4, 32), torch.nan)}, "holds NaN or infinity"),
        ({A: torch.full((4, 32), torch.inf)}, "holds NaN or infinity"),
        ({A: torch.ones(4, 32, dtype=torch.int32)}, "not floating-point"),
        ({A.replace("transformer.", ""): torch.ones(4, 32)}, "are the same tensor"),
    ],
)
def test_a_tensor_that_is_missing_extra_or_wrong_is_named(saved, changes, said):
    rewrite(saved, changes)
    with pytest.raises(WeightsError, match=said):
        load_model(saved)


def test_half_an_adapter_is_refused_whichever_half(saved):
    tensors = saved / "adapter_model.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[: len(whole) // 2])
    assert "cut short" in refusal(lambda: load_model(saved))
    tensors.unlink()
    assert "half an adapter" in refusal(lambda: load_model(saved))
    tensors.write_bytes(whole)
    base = (saved / "adapter_base.json").read_bytes()
    (saved / "adapter_base.json").unlink()
    load_model(saved)  # as PEFT's own, which know no fingerprint
    (saved / "template.json").write_text("{}", encoding="utf-8")  # but this one is ours
    assert "half an adapter" in refusal(lambda: load_model(saved))
    (saved / "adapter_base.json").write_bytes(base)
    (saved / "template.json").unlink()
    load_model(saved)
    (saved / "adapter_config.json").unlink()
    assert "no model" in refusal(lambda: load_model(saved))


def test_a_pickle_is_refused_unrun(saved, tmp_path):
    import pickle

    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (saved / "adapter_model.safetensors").unlink()
    (saved / "adapter_model.bin").write_bytes(pickle.dumps({A: Runs()}))
    assert "pickle" in refusal(lambda: load_model(saved), AdapterError)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peft_type", "IA3"), ("peft_type", None), ("use_dora", True), ("bias", "all"),
        ("modules_to_save", ["lm_head"]), ("rank_pattern", {"c_attn": 8}),
        ("alpha_pattern", {"c_attn": 8}), ("layers_to_transform", [0]), ("layers_to_transform", 0),
        ("layer_replication", [[0]]), ("target_modules", None),
        ("trainable_token_indices", [1]), ("target_parameters", ["x"]), ("lora_bias", True),
        ("exclude_modules", ["c_proj"]), ("init_lora_weights", "pissa"), ("use_qalora", True),
        ("something_new", 3), ("r", 0), ("r", True), ("r", 2.0), ("lora_alpha", "8"),
        ("lora_alpha", None), ("lora_dropout", 1.0), ("use_rslora", "yes"),
        ("target_modules", []), ("target_modules", [3]), ("target_modules", ["wte"]),
        ("target_modules", "("), ("r", 33), ("base_model_name_or_path", 3),
    ],
)  # fmt: skip
def test_what_would_be_computed_otherwise_is_refused_by_its_name(saved, name, value):
    change(saved, **{name: value})
    message = refusal(lambda: load_model(saved), AdapterError)
    expected = {"target_modules": "target|projection", "r": "r is|rank", "base_model": "base"}
    words = next((said for key, said in expected.items() if name.startswith(key)), name)
    assert any(word in message for word in words.split("|")), message


def test_files_that_are_no_json_or_no_object_are_named(saved):
    for name in ("adapter_config.json", "adapter_base.json"):
        whole = (saved / name).read_bytes()
        for content in (b"", b"{", b"[1]", b"\xff", b"[" * 100_000):
            (saved / name).write_bytes(content)
            assert name in refusal(lambda: load_model(saved), AdapterError)
        (saved / name).write_bytes(whole)
    change(saved, "adapter_base.json", quantize="nf3")
    assert "nf3" in refusal(lambda: load_model(saved), AdapterError)


def test_a_folder_with_a_model_and_an_adapter_is_ambiguous_and_refused(base, saved):
    shutil.copy(base / "model.safetensors", saved)
    assert "which of them" in refusal(lambda: load_model(saved), WeightsError)


def test_an_adapter_that_would_not_load_is_not_saved(base, tmp_path):
    model = adapter_on(base)
    with torch.no_grad():
        model.h[0].mlp.c_fc.lora_B[0, 0] = torch.nan
    assert "not all numbers" in refusal(lambda: save_adapter(model, tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()
    assert "no adapter" in refusal(lambda: save_adapter(load_model(base), tmp_path / "adapter"))
    assert "save_adapter" in refusal(lambda: save_model(model, tmp_path / "model"))


# ---- merged ---------------------------------------------------------------------------------


def test_a_merged_folder_is_a_plain_model_with_the_adapter_s_logits(base, saved, tmp_path):
    expected = load_model(saved)(IDS)
    merged = merge_folder(saved, tmp_path / "merged")
    assert merged.gap < 1e-4 and merged.gap_of_4_bits is None
    model = load_model(tmp_path / "merged")
    assert isinstance(model.h[0].mlp.c_fc, Projection)
    torch.testing.assert_close(model(IDS), expected, rtol=0, atol=1e-4)
    assert (expected - load_model(base)(IDS)).abs().max() > 0.1


def test_merging_a_base_in_4_bits_goes_by_what_it_was_tuned_on_and_tells_the_gap(base, tmp_path):
    save_adapter(adapter_on(base, quantize="nf4"), tmp_path / "adapter")
    expected = load_model(tmp_path / "adapter")(IDS)
    merged = merge_folder(tmp_path / "adapter", tmp_path / "merged")
    assert merged.gap < 1e-4 < 0.01 < merged.gap_of_4_bits
    torch.testing.assert_close(load_model(tmp_path / "merged")(IDS), expected, rtol=0, atol=1e-4)


def test_the_script_merges_says_how_well_and_replaces_nothing_unasked(base, saved, tmp_path):
    out = tmp_path / "merged"
    ended = run_script("merge", "--adapter", str(saved), "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    assert "the largest difference in logits to the adapter's: " in ended.stdout
    assert "4 bits" not in ended.stdout
    again = run_script("merge", "--adapter", str(saved), "--out", str(out))
    assert again.returncode == 1 and "is not empty" in again.stderr
    forced = run_script("merge", "--adapter", str(saved), "--out", str(out), "--overwrite")
    assert forced.returncode == 0
    for own in (base, saved):
        ended = run_script("merge", "--adapter", str(saved), "--out", str(own), "--overwrite")
        assert ended.returncode == 1 and "--out" in ended.stderr and ended.stderr.count("\n") == 1
    ended = run_script("merge", "--adapter", str(base), "--out", str(tmp_path / "x"))
    assert ended.returncode == 1 and "is no adapter" in ended.stderr

    save_adapter(adapter_on(base, quantize="nf4"), tmp_path / "q")
    base.rename(tmp_path / "moved")
    given = ("--adapter", str(tmp_path / "q"), "--out", str(tmp_path / "merged2"))
    assert "--model BASE" in run_script("merge", *given).stderr
    ended = run_script("merge", *given, "--model", str(tmp_path / "moved"))
    assert ended.returncode == 0 and "4 bits" in ended.stdout


# ---- PEFT -----------------------------------------------------------------------------------


@pytest.fixture
def peft():
    pytest.importorskip("transformers", reason="transformers is the reference")
    return pytest.importorskip("peft", reason="PEFT is the reference")


def their_base(folder: Path):
    import transformers

    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": 16, "alpha": 5.0, "rank_stabilised": True, "dropout": 0.25},
        {"targets": ("attn.c_proj", "c_fc")},
        {"targets": r".*\.1\.mlp\..*"},
    ],
)
def test_peft_opens_ours_with_our_logits(peft, base, tmp_path, changes):
    model = adapter_on(base, **changes)
    save_adapter(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(their_base(base), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS), rtol=0, atol=1e-5)
    found = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(found(IDS).logits, model(IDS), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "r": 16, "lora_alpha": 3, "lora_dropout": 0.1},
        {"target_modules": ["c_attn"], "fan_in_fan_out": False},
        {"target_modules": None},
        {"target_modules": "all-linear"},
        {"target_modules": r"transformer\.h\.1\..*c_fc"},
        {"init_lora_weights": "gaussian", "task_type": None},
    ],
)
def test_we_open_peft_s_with_its_logits_and_give_it_back(peft, base, tmp_path, changes):
    targets = ["c_attn", "c_proj", "c_fc"]
    settings = {"r": 4, "lora_alpha": 8, "target_modules": targets, "fan_in_fan_out": True}
    settings |= {"task_type": "CAUSAL_LM"}
    theirs = peft.get_peft_model(their_base(base), peft.LoraConfig(**(settings | changes))).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    expected = theirs(IDS).logits
    torch.testing.assert_close(ours(IDS), expected, rtol=0, atol=1e-5)

    save_adapter(ours, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(their_base(base), tmp_path / "ours").eval()
    torch.testing.assert_close(again(IDS).logits, expected, rtol=0, atol=1e-6)
    one, other = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("theirs", "ours"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_peft_s_adapter_of_a_bare_gpt2_is_opened_as_well(peft, base, tmp_path):
    import transformers

    bare = transformers.GPT2Model.from_pretrained(base).eval()
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["c_fc"], fan_in_fan_out=True)
    theirs = peft.get_peft_model(bare, config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    hidden = theirs(IDS).last_hidden_state
    torch.testing.assert_close(ours.hidden(IDS), hidden, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"modules_to_save": ["ln_f"]},
        {"rank_pattern": {"c_fc": 2}},
        {"lora_bias": True},
    ],
)
def test_what_peft_can_do_and_we_cannot_is_refused_from_its_own_files(
    peft, base, tmp_path, changes
):
    config = peft.LoraConfig(r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, **changes)
    peft.get_peft_model(their_base(base), config).save_pretrained(tmp_path / "theirs")
    message = refusal(lambda: load_model(tmp_path / "theirs"), AdapterError)
    assert next(iter(changes)) in message
    with pytest.raises(AdapterError):
        read_adapter(tmp_path / "theirs")


def test_a_merged_model_never_takes_a_run_s_place(tmp_path):
    (tmp_path / "run" / "last").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out, said in (("run", "is a run's"), ("run/last", "is a run's"), ("file", "is a file")):
        given = ("--adapter", str(tmp_path), "--out", str(tmp_path / out), "--overwrite")
        ended = run_script("merge", *given)
        assert ended.returncode == 1 and said in ended.stderr
    assert (tmp_path / "run" / "last").is_dir()
