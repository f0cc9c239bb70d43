"""Loading is strict, saving is whole, and transformers opens what we write."""

import copy
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gpt import weights
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.model import GPT
from gpt.records import Turn
from gpt.template import BUILT_IN, Template
from gpt.tensor_files import WeightsError, open_tensors
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import load_model, save_model
from tests.tf_writer import write_openai_folder
from tests.tiny import TINY, random_ids, random_model

C_FC = "h.1.mlp.c_fc.weight"


def assert_same_weights(one: GPT, other: GPT) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), (
            name
        )


@pytest.fixture
def folder(tmp_path) -> Path:
    save_model(random_model(), tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change) -> None:
    """Let `change` edit the tensors of the file, by name, in place."""
    tensors = dict(load_file(folder / "model.safetensors"))
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


# ---- round trips ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ours_to_transformers_and_back_is_the_same_bit_for_bit(tmp_path, dtype):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    ours = random_model().to(dtype)
    save_model(ours, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_model(tmp_path / "theirs")
    assert_same_weights(back, ours)
    save_model(back, tmp_path / "again")
    assert_same_weights(load_model(tmp_path / "again"), ours)
    ids = random_ids(2, 9)
    torch.testing.assert_close(
        theirs.eval()(ids).logits.float(),
        ours(ids).float(),
        atol=5e-2 if dtype != torch.float32 else 1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "GPT2Model"])
@pytest.mark.parametrize("shard_size", ["1GB", "4KB"])
def test_a_folder_that_transformers_saved_loads_bit_for_bit(tmp_path, kind, shard_size):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(transformers.GPT2Config(**TINY.to_dict()))
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").is_file() == (shard_size == "4KB")
    loaded = load_model(tmp_path)
    core = getattr(theirs, "transformer", theirs)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, core.get_parameter(name)), name


def test_the_head_is_stored_once_and_names_are_gpt2s(folder):
    names = set(load_file(folder / "model.safetensors"))
    assert names == {name for name, _ in random_model().named_parameters()}
    assert len(names) == 4 + 12 * TINY.n_layer
    assert oct((folder / "model.safetensors").stat().st_mode) == oct(
        (folder / "config.json").stat().st_mode
    )


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_pytorch_bin_loads_with_masks_and_a_tied_head(folder, new_format, prefix):
    model = load_model(folder)
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    for layer in range(2):
        state[f"{prefix}h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32).tril().bool()
        state[f"{prefix}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    state["lm_head.weight"] = state[prefix + "wte.weight"]
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    assert_same_weights(load_model(folder), random_model())


def test_openais_tensorflow_folder_loads(tmp_path):
    model = random_model(GPTConfig(vocab_size=97, n_ctx=32, n_layer=3, n_head=2, n_embd=8))
    write_openai_folder(tmp_path, model)
    assert_same_weights(load_model(tmp_path), model)


@pytest.mark.parametrize("source", ["vocab.json", "encoder.json"])
def test_a_vocabulary_travels_with_its_weights_and_transformers_opens_both(tmp_path, source):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    text = "the tide takes the time it takes"
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges(text, 20)))
    config = GPTConfig(vocab_size=tokenizer.n_vocab, n_ctx=32, n_layer=1, n_head=2, n_embd=8)
    given = tmp_path / "given"
    given.mkdir()
    if source == "encoder.json":  # OpenAI's folder, with its names for everything
        write_openai_folder(given, random_model(config))
        (given / "encoder.json").write_bytes(tokenizer.files["vocab.json"])
        (given / "vocab.bpe").write_bytes(tokenizer.files["merges.txt"])
    else:
        save_model(random_model(config), given)
        tokenizer.save(given)
    save_model(load_model(given), tmp_path / "saved")

    ours = Tokenizer.from_folder(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = ours.encode(text)
    assert ids == tokenizer.encode(text) == theirs(text)["input_ids"]
    assert model.config.eos_token_id == ours.end_id == theirs.eos_token_id
    logits = model(torch.tensor([ids])).logits
    torch.testing.assert_close(logits, random_model(config)(torch.tensor([ids])))


def test_a_damaged_tensor_of_a_tensorflow_checkpoint_is_named(tmp_path):
    write_openai_folder(tmp_path, random_model())
    [path] = tmp_path.glob("model.ckpt.data*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"tensor 'model/.*CRC"):
        load_model(tmp_path)


def test_dtype_device_mode_and_gradients_are_as_asked(folder):
    loaded = load_model(folder)
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(folder, dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }
    assert load_model(str(folder), device=torch.device("cpu")).wte.weight.device.type == "cpu"


def test_a_file_of_two_precisions_loads_in_the_wider(folder):
    rewrite(folder, lambda tensors: tensors.update({C_FC: tensors[C_FC].half()}))
    loaded = load_model(folder)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(
        loaded.get_parameter(C_FC), random_model().get_parameter(C_FC).half().float()
    )


def test_loading_draws_no_random_numbers_and_trains_without_touching_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    state = torch.get_rng_state()
    model = load_model(folder)
    assert torch.equal(state, torch.get_rng_state())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(random_ids(1, 5)).logsumexp(-1).sum().backward()
    optimizer.step()
    assert not torch.equal(model.wte.weight, load_model(folder).wte.weight)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_model_can_be_saved_over_the_folder_that_it_was_loaded_from(folder):
    model = load_model(folder)
    with torch.no_grad():
        model.wte.weight += 1
    expected = copy.deepcopy(model.state_dict())
    save_model(model, folder)
    for name, tensor in load_model(folder).state_dict().items():
        assert torch.equal(tensor, expected[name]) and torch.equal(
            model.state_dict()[name], expected[name]
        )
    assert sorted(os.listdir(folder.parent)) == ["model"]


def test_saving_replaces_another_model_whole_and_keeps_what_is_not_a_models(folder):
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")  # would be read with the new
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"old shard")
    (folder / "notes.md").write_text("mine", encoding="utf-8")
    save_model(random_model(), folder)
    assert sorted(os.listdir(folder)) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "notes.md",
    ]


def test_a_compiled_model_is_saved_as_the_plain_one(tmp_path):
    model = random_model()
    save_model(torch.compile(model), tmp_path / "model")
    assert_same_weights(load_model(tmp_path / "model"), model)


def test_a_full_disk_leaves_the_model_that_was_there(folder, small_disk):
    home = small_disk / "model"
    save_model(random_model(), home)
    big = GPT(GPTConfig(vocab_size=50_000, n_ctx=32, n_layer=1, n_head=2, n_embd=32))
    with pytest.raises(WeightsError, match=r"needs 6,\d\d\d,\d\d\d bytes, and \d[\d,]* are free"):
        save_model(big, home)
    assert_same_weights(load_model(home), random_model())
    assert os.listdir(small_disk) == ["model"]


def test_a_disk_that_fills_up_while_saving_leaves_the_model_that_was_there(small_disk, monkeypatch):
    home = small_disk / "model"
    save_model(random_model(), home)
    usage = shutil.disk_usage(small_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**12))
    big = GPT(GPTConfig(vocab_size=50_000, n_ctx=32, n_layer=1, n_head=2, n_embd=32))
    with pytest.raises(WeightsError, match=r"not saved.*[Nn]o space left"):
        save_model(big, home)
    assert_same_weights(load_model(home), random_model())
    assert os.listdir(small_disk) == ["model"]


def test_the_template_travels_with_the_weights_from_save_to_save(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges("the tide", 3)))
    sizes = {"n_ctx": 8, "n_layer": 1, "n_head": 1, "n_embd": 4, "end_id": tokenizer.end_id}
    model = random_model(GPTConfig(vocab_size=tokenizer.n_vocab, **sizes))
    template = BUILT_IN["phi3"]
    model.vocabulary = template.add_to(tokenizer.files)
    save_model(model, tmp_path / "tuned")
    save_model(load_model(tmp_path / "tuned"), tmp_path / "again")
    for folder in (tmp_path / "tuned", tmp_path / "again"):
        assert Template.load(folder).hash == template.hash
        library = transformers.AutoTokenizer.from_pretrained(folder)
        asked = [{"role": "user", "content": "the tide"}]
        text = library.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompt = template.prompt_ids(tokenizer, [Turn("user", "the tide")])
        assert text == tokenizer.decode(prompt)


def test_an_end_that_only_the_vocabulary_knows_is_taken_from_it(tmp_path):
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges("the tide", 3)))
    config = GPTConfig(vocab_size=tokenizer.n_vocab + 9, n_ctx=8, n_layer=1, n_head=1, n_embd=4)
    save_model(random_model(config), tmp_path / "model")
    assert load_model(tmp_path / "model").config.end_id is None
    tokenizer.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config.end_id == tokenizer.end_id < config.vocab_size - 1
    save_model(loaded, tmp_path / "again")
    fields = json.loads((tmp_path / "again" / "generation_config.json").read_text("utf-8"))
    assert fields["eos_token_id"] == tokenizer.end_id


def test_a_model_that_would_not_load_again_replaces_nothing(folder):
    for name, harm in {
        "wte.weight": lambda t: t.__setitem__((0, 0), torch.nan),
        "h.0.ln_1.bias": lambda t: t.set_(torch.ones(3)),
    }.items():
        model = random_model()
        with torch.no_grad():
            harm(model.get_parameter(name))
        with pytest.raises(WeightsError, match=f"not saved: {name} is"):
            save_model(model, folder)
    assert_same_weights(load_model(folder), random_model())


def test_a_model_that_is_saved_while_it_is_loaded_is_the_old_or_the_new_one(folder, monkeypatch):
    """Between the configuration and the weights, another process saves another model."""
    other = random_model(GPTConfig(vocab_size=97, n_ctx=32, n_layer=3, n_head=2, n_embd=8))
    read, calls = weights.read_config_of, []

    def saved_meanwhile(folder):
        config = read(folder)
        if not calls:
            calls.append(save_model(other, folder))
        return config

    monkeypatch.setattr(weights, "read_config_of", saved_meanwhile)
    assert_same_weights(load_model(folder), other)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, "float32"])
def test_a_dtype_that_no_weight_has_is_refused(folder, dtype):
    with pytest.raises(WeightsError, match=r"weights are one of torch\.float64"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_named(folder, device):
    with pytest.raises(WeightsError, match=f"not on device {device}: "):
        load_model(folder, device=device)


def test_a_folder_that_a_killed_save_had_moved_aside_is_still_found(folder):
    folder.rename(folder.with_name(".model.old"))
    assert_same_weights(load_model(folder), random_model())


# ---- what is refused ------------------------------------------------------------------------


def tensors_without(name):
    return lambda tensors: tensors.pop(name)


def tensors_with(**changes):
    return lambda tensors: tensors.update(
        {name.replace("__", "."): tensor for name, tensor in changes.items()}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (tensors_without(C_FC), r"h\.1\.mlp\.c_fc\.weight is missing; it should be \[8, 32\]"),
        (tensors_without("wte.weight"), r"wte\.weight is missing; it should be \[97, 8\]"),
        (
            tensors_with(h__2__ln_1__bias=torch.ones(8)),
            r"h\.2\.ln_1\.bias .* is no part",
        ),
        (tensors_with(v_head__weight=torch.ones(8)), r"v_head\.weight .* is no part"),
        (
            lambda t: t.update({C_FC: t[C_FC].T.contiguous()}),
            r"c_fc\.weight has shape \[32, 8\].*\[8, 32\]: it is transposed",
        ),
        (
            tensors_with(wpe__weight=torch.ones(31, 8)),
            r"wpe\.weight has shape \[31, 8\].*32",
        ),
        (tensors_with(ln_f__bias=torch.ones(8, 1)), r"ln_f\.bias has shape \[8, 1\].*\[8\]"),
        (tensors_with(ln_f__bias=torch.ones(8).int()), r"ln_f\.bias holds torch\.int32"),
        (tensors_with(ln_f__bias=torch.full((8,), torch.nan)), r"ln_f\.bias holds NaN or infinity"),
        (
            lambda t: t[C_FC].__setitem__((3, 4), -torch.inf),
            r"h\.1\.mlp\.c_fc\.weight holds NaN or infinity",
        ),
        (
            lambda t: t.update({"transformer.ln_f.bias": torch.ones(8)}),
            r"ln_f\.bias and .*ln_f\.bias are the same tensor",
        ),
        (
            tensors_with(lm_head__weight=torch.ones(97, 8)),
            r"lm_head\.weight .* is not equal",
        ),
        (
            tensors_with(lm_head__weight=torch.ones(8, 97)),
            r"lm_head\.weight .* is not equal",
        ),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(WeightsError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_several_faults_are_counted(folder):
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors)[:5]])
    with pytest.raises(WeightsError, match=r"and 4 more such faults"):
        load_model(folder)


def test_a_number_too_large_for_the_dtype_asked_for_is_named(folder):
    rewrite(folder, lambda tensors: tensors[C_FC].__setitem__((0, 0), 1e6))
    load_model(folder)
    with pytest.raises(WeightsError, match=r"c_fc\.weight holds NaN or infinity as torch\.float16"):
        load_model(folder, dtype=torch.float16)


@pytest.mark.parametrize("size", [0, 5, 8, 100, -1])
def test_a_safetensors_file_cut_short_is_refused(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"cut short"):
        load_model(folder)


def lie(folder: Path, change) -> None:
    """Let `change` edit the header of a safetensors file; the data stay as they are."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + n :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h[C_FC].update(shape=[2**40, 2**40]), "takes 4,835,703,278,458,516,698,824,704"),
        (lambda h: h[C_FC].update(shape=[-8, -32]), "shape"),
        (lambda h: h[C_FC].update(shape=[8, 32.0]), "shape"),
        (lambda h: h[C_FC].update(shape="8x32"), "shape"),
        (lambda h: h[C_FC].update(dtype="F65"), "unknown dtype 'F65'"),
        (lambda h: h[C_FC].update(dtype=[1]), "unknown dtype"),
        (lambda h: h[C_FC].pop("data_offsets"), "needs dtype, shape and two data_offsets"),
        (lambda h: h[C_FC].update(data_offsets=[0, 1024]), "overlap"),
        (lambda h: h[C_FC].update(data_offsets=[2**60, 2**60 + 1024]), "gap"),
        (lambda h: h[C_FC].update(data_offsets=[1024, 0]), "the header gives it -1,024"),
    ],
)
def test_a_header_that_lies_is_refused_by_tensor_name(folder, change, message):
    lie(folder, change)
    with pytest.raises(WeightsError, match=f"{message}") as error:
        open_tensors(folder)
    assert C_FC in str(error.value) or "overlap" in message or "gap" in message


def test_a_name_that_stands_twice_in_a_header_is_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    text = content[8 : 8 + n].replace(b'"ln_f.weight"', b'"ln_f.bias"  ')
    path.write_bytes(content[:8] + text + content[8 + n :])
    with pytest.raises(WeightsError, match=r"ln_f\.bias stands twice"):
        load_model(folder)


def test_a_configuration_of_impossible_size_costs_nothing(folder):
    for change in ({"n_layer": 10**9}, {"vocab_size": 2**62}, {"n_positions": 2**60}):
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**fields, **change}), encoding="utf-8")
        with pytest.raises(WeightsError, match=r"model\.safetensors"):
            load_model(folder)
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")


LIES = """
import resource, sys
from gpt.tensor_files import WeightsError, open_tensors
from tests.test_weights import C_FC, Path, json, lie, shutil
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, -1))
folder = Path(sys.argv[1])
whole = (folder / "model.safetensors").read_bytes()
for size in (2**31, 2**40, 2**62, 2**64, 10**30):
    for change in ({"shape": [size]}, {"shape": [size, size]}, {"data_offsets": [0, size]},
                   {"shape": [size // 4], "data_offsets": [0, size]}):
        (folder / "model.safetensors").write_bytes(whole)
        lie(folder, lambda header: header[C_FC].update(change))
        try:
            open_tensors(folder)
        except WeightsError:
            print("refused")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's own figures")
def test_a_lying_length_is_refused_before_any_memory_is_asked_for(folder):
    command = [sys.executable, "-c", LIES, str(folder)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert ended.stdout.split() == ["refused"] * 20, ended.stderr


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "no weight_map"),
        ("[]", "no weight_map"),
        ('{"weight_map": {"a": 3}}', "not the name of a safetensors file"),
        ('{"weight_map": {"a": "../../x.safetensors"}}', "not the name of a safetensors file"),
        ('{"weight_map": {"a": "x.safetensors"}}', "missing"),
        ('{"weight_map": {"a": "one.safetensors"}}', "in no file"),
        ('{"weight_map": {"a": ["one.safetensors"]}}', "no weight_map"),
    ],
)
def test_an_index_of_shards_that_is_wrong_is_refused(folder, index, message):
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(WeightsError, match=message):
        load_model(folder)


def test_a_tensor_absent_from_its_shard_is_named(folder):
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    names = [*load_file(folder / "one.safetensors"), "h.9.ln_1.bias"]
    index = {"weight_map": dict.fromkeys(names, "one.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"one\.safetensors: h\.9\.ln_1\.bias is missing"):
        load_model(folder)


class RunsCode:
    def __reduce__(self):
        return os.system, (f"echo run > {self.proof}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare pickle"])
def test_a_malicious_pickle_runs_nothing(folder, tmp_path, how):
    (folder / "model.safetensors").unlink()
    trap = RunsCode()
    trap.proof = tmp_path / "proof"
    path = folder / "pytorch_model.bin"
    if how == "bare pickle":
        path.write_bytes(pickle.dumps({"wte.weight": trap}, protocol=2))
    else:
        torch.save({"wte.weight": trap}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(WeightsError, match="nothing in it was run") as error:
        load_model(folder)
    assert how == "bare pickle" or "posix.system" in str(error.value)
    assert not trap.proof.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        ({"wte.weight": "text"}, "'wte.weight' is a str"),
        ({3: torch.ones(2)}, "no dense tensor"),
        ({"model": {"wte.weight": torch.ones(2)}}, "'model' is a dict"),
        ({"wte.weight": torch.ones(1).expand(2**40)}, "claims more numbers"),
        ({"wte.weight": torch.eye(3).to_sparse()}, "no dense tensor"),
        ({"wte.weight": torch.eye(3).to_sparse_csr()}, "no dense tensor"),
        ({"wte.weight": torch.ones(3, device="meta")}, "no dense tensor"),
    ],
)
def test_a_pickle_of_something_else_is_refused(folder, content, message):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=message):
        load_model(folder)


def test_two_names_for_one_tensor_do_not_become_one_parameter(folder):
    state = dict(random_model().state_dict())
    state["h.0.ln_1.bias"] = state["h.1.ln_1.bias"]
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    model = load_model(folder)
    with torch.no_grad():
        model.h[0].ln_1.bias += 1
    assert torch.equal(model.h[1].ln_1.bias, state["h.1.ln_1.bias"])


def test_a_folder_without_weights_says_what_was_looked_for(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no weights here.*model\.ckpt\.index"):
        load_model(folder)


# ---- damage of any kind ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, bytes, int]:
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    save_model(random_model(), folder)
    content = (folder / "model.safetensors").read_bytes()
    return folder, content, 8 + struct.unpack("<Q", content[:8])[0]


def loads_or_says_why(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    tracemalloc.start()
    try:
        load_model(folder)
    except UserError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000


@settings(max_examples=1500)
@given(data=st.data())
def test_a_header_with_any_bytes_changed_never_crashes(whole, data):
    folder, content, end = whole
    broken = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    loads_or_says_why(folder, bytes(broken))


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_at_all_never_crash(whole, content, with_length):
    length = struct.pack("<Q", len(content)) if with_length else b""
    loads_or_says_why(whole[0], length + content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=700)
@given(st.sampled_from(["dtype", "shape", "data_offsets", None]), json_values)
def test_a_header_entry_of_any_value_never_crashes(whole, key, value):
    folder, content, end = whole
    header = json.loads(content[8:end])
    if key is None:
        header[C_FC] = value
    else:
        header[C_FC][key] = value
    text = json.dumps(header).encode()
    loads_or_says_why(folder, struct.pack("<Q", len(text)) + text + content[end:])


@settings(max_examples=200)
@given(data=st.data())
def test_a_torch_file_with_any_bytes_changed_never_crashes(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed-bin"
    if not folder.exists():
        save_model(random_model(), folder)
        (folder / "model.safetensors").unlink()
        torch.save(random_model().state_dict(), folder / "whole.bin")
    broken = bytearray((folder / "whole.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    (folder / "pytorch_model.bin").write_bytes(bytes(broken))
    with suppress(UserError):
        load_model(folder)


def test_numpy_and_torch_agree_on_what_was_written(folder):
    """The file read with nothing but its own specification."""
    content = (folder / "model.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    start, stop = header[C_FC]["data_offsets"]
    numbers = np.frombuffer(content[8 + n :][start:stop], "<f4").reshape(header[C_FC]["shape"])
    assert np.array_equal(numbers, random_model().get_parameter(C_FC).detach().numpy())
