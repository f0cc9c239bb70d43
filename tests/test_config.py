"""Configurations: what is read, what is written, and what is refused by the name of its field."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.config import PUBLISHED, ConfigError, GPTConfig, read_config
from gpt.errors import UserError

# The fields of the published gpt2/config.json that say anything about the model.
PUBLISHED_GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}


def test_the_published_file_is_the_published_model():
    assert GPTConfig.from_dict(PUBLISHED_GPT2) == PUBLISHED["gpt2"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_is_read_again(name):
    config = PUBLISHED[name]
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_transformers_reads_ours_and_we_read_theirs():
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    sizes = {"vocab_size": 300, "n_ctx": 64, "n_layer": 3, "n_head": 2, "n_embd": 10}
    config = GPTConfig(**sizes, dropout=0.2, end_id=299)
    theirs = transformers.GPT2Config(**config.to_dict())
    assert theirs.n_positions == 64 and theirs.resid_pdrop == 0.2 and theirs.eos_token_id == 299
    assert GPTConfig.from_dict(json.loads(theirs.to_json_string())) == config


def test_openais_hparams_are_read_too(tmp_path):
    path = tmp_path / "hparams.json"
    path.write_text(
        '{"n_vocab": 50257, "n_ctx": 1024, "n_embd": 1024, "n_head": 16, "n_layer": 24}',
        encoding="utf-8",
    )
    assert read_config(path) == PUBLISHED["gpt2-medium"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "gelu"),
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("model_type", "gpt_neo"),
        ("n_inner", 1000),
        ("quantization_config", {"bits": 4}),
        ("auto_map", {"AutoModel": "code.Model"}),
    ],
)
def test_an_architecture_that_would_be_computed_wrongly_is_refused_by_field(field, value):
    with pytest.raises(ConfigError, match=f"config.json: {field} is"):
        GPTConfig.from_dict({**PUBLISHED_GPT2, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_inner", None),
        ("n_inner", 3072),
        ("activation_function", "gelu_pytorch_tanh"),
        ("scale_attn_by_inverse_layer_idx", False),
        ("reorder_and_upcast_attn", True),  # another order of the same arithmetic
        ("eos_token_id", [50256, 50257]),
    ],
)
def test_fields_that_change_no_arithmetic_are_accepted(field, value):
    assert GPTConfig.from_dict({**PUBLISHED_GPT2, field: value}) == PUBLISHED["gpt2"]


@pytest.mark.parametrize("value", [None, [], -1, "3", 99_999])
def test_an_end_that_the_vocabulary_has_not_is_left_to_the_vocabulary(value):
    """99,999 stands for transformers' default, 50256, beside a small vocabulary."""
    config = GPTConfig.from_dict({**PUBLISHED_GPT2, "eos_token_id": value})
    assert config == replace(PUBLISHED["gpt2"], end_id=None)
    assert config.to_dict()["eos_token_id"] is None


def test_a_missing_size_is_named_with_what_was_meant():
    fields = {**PUBLISHED_GPT2, "n_layers": 12}
    del fields["n_layer"]
    with pytest.raises(ConfigError, match=r"n_layer is missing.*'n_layers'"):
        GPTConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_layer", 0),
        ("n_layer", 2.0),
        ("n_layer", True),
        ("n_head", -1),
        ("n_embd", "768"),
        ("n_head", 7),
        ("vocab_size", None),
        ("layer_norm_epsilon", 0),
        ("layer_norm_epsilon", "small"),
        ("resid_pdrop", 1.0),
        ("resid_pdrop", "none"),
    ],
)
def test_an_impossible_value_is_refused(field, value):
    with pytest.raises(ConfigError, match=r"config\.json"):
        GPTConfig.from_dict({**PUBLISHED_GPT2, field: value})


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"n_layer": NaN}']
)
def test_a_damaged_file_is_one_message_that_names_it(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_config(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path / "config.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted([*PUBLISHED_GPT2, "n_inner", "auto_map"])), values))
def test_any_fields_are_a_configuration_or_a_message(changes):
    with suppress(UserError):
        assert GPTConfig.from_dict({**PUBLISHED_GPT2, **changes}).head_size >= 1
