"""What a GPT-2 is, in seven numbers (and the id that ends a text).

Everything in `model.py` follows from these. They are read from a Hugging Face `config.json` and
written back to one, so that a model's folder says all that there is to know about its shape. A
configuration that the code in `model.py` would compute wrongly is refused by the name of its field.

    python -m gpt.config        # the five published models, side by side

Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
"""

import json
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

from gpt.cli import run
from gpt.errors import UserError


class ConfigError(UserError):
    """A configuration that describes no GPT-2, or one that this code would compute wrongly."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass
class GPTConfig:
    """The shape of a GPT-2. The defaults are the 124M model, the smallest that OpenAI published."""

    vocab_size: int = 50257  # entries: 256 bytes + 50,000 merges + <|endoftext|>
    n_ctx: int = 1024  # tokens: the longest text the model can see, as it has one wpe row for each
    n_layer: int = 12  # blocks
    n_head: int = 12  # attention heads a block; n_embd / n_head = 64 in every published GPT-2
    n_embd: int = 768  # channels: the width of the stream that runs through all blocks
    dropout: float = 0.1  # probability, while training: GPT-2's own; a tuning run sets its own
    layer_norm_epsilon: float = 1e-5  # added to the variance, against a division by zero
    end_id: int | None = None  # the id of the end token; None: only the vocabulary knows it

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_ctx", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head}): "
                "every head gets an equal share of the channels"
            )
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ConfigError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")
        if not (_is_number(self.layer_norm_epsilon) and 0 < self.layer_norm_epsilon < 1):
            raise ConfigError(
                f"layer_norm_epsilon must be between 0 and 1, not {self.layer_norm_epsilon!r}"
            )
        end_id = 0 if self.end_id is None else self.end_id
        if type(end_id) is not int or not 0 <= end_id < self.vocab_size:
            raise ConfigError(
                f"end_id must be an id below vocab_size ({self.vocab_size}), not {self.end_id!r}"
            )

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    def n_params(self) -> int:
        """How many numbers the model learns; a test holds this to the real model's own count."""
        C = self.n_embd
        embeddings = self.vocab_size * C + self.n_ctx * C  # wte is the head too: stored once
        attention = (C * 3 * C + 3 * C) + (C * C + C)  # c_attn, c_proj: weight and bias
        mlp = (C * 4 * C + 4 * C) + (4 * C * C + C)  # c_fc, c_proj
        block = 2 * C + attention + 2 * C + mlp  # each LayerNorm has a weight and a bias
        return embeddings + self.n_layer * block + 2 * C  # and ln_f

    @classmethod
    def from_dict(cls, fields: dict, where: str = "config.json") -> "GPTConfig":
        """From a Hugging Face GPT-2 configuration. Fields that change nothing here are ignored."""
        if not isinstance(fields, dict):
            raise ConfigError(f"{where}: expected an object, found {type(fields).__name__}")
        _refuse_other_architectures(fields, where)
        sizes = {}
        for ours, theirs in _HUGGING_FACE_NAMES.items():
            names = [name for name in theirs if name in fields]
            if names:
                sizes[ours] = fields[names[0]]
            elif ours != "layer_norm_epsilon":  # the one whose default all GPT-2s share
                hint = _did_you_mean(theirs[0], fields)
                raise ConfigError(f"{where}: {theirs[0]} is missing{hint}")
        # GPT-2 files give three dropouts that are one number; where they differ, the strongest.
        dropouts = [fields.get(name, 0.1) for name in _DROPOUTS]
        if not all(_is_number(p) and 0 <= p < 1 for p in dropouts):
            names = ", ".join(_DROPOUTS)
            raise ConfigError(f"{where}: {names} must be at least 0 and below 1, not {dropouts}")
        try:
            return cls(**sizes, dropout=max(dropouts), end_id=_end_id(fields, sizes["vocab_size"]))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_dict(self) -> dict:
        """What `from_dict` reads, in the form that `transformers` reads too."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",  # their name for the tanh form of GELU
            "vocab_size": self.vocab_size,
            "n_positions": self.n_ctx,
            "n_ctx": self.n_ctx,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_embd": self.n_embd,
            **dict.fromkeys(_DROPOUTS, self.dropout),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "bos_token_id": self.end_id,  # GPT-2 has one special token, for both ends
            "eos_token_id": self.end_id,
        }


PUBLISHED = {
    "distilgpt2": GPTConfig(n_layer=6, end_id=50256),  # a student of gpt2 (Sanh et al., 2019)
    "gpt2": GPTConfig(end_id=50256),
    "gpt2-medium": GPTConfig(n_layer=24, n_head=16, n_embd=1024, end_id=50256),
    "gpt2-large": GPTConfig(n_layer=36, n_head=20, n_embd=1280, end_id=50256),
    "gpt2-xl": GPTConfig(n_layer=48, n_head=25, n_embd=1600, end_id=50256),
}

_HUGGING_FACE_NAMES = {
    "vocab_size": ("vocab_size", "n_vocab"),  # n_vocab: OpenAI's own hparams.json
    "n_ctx": ("n_positions", "n_ctx"),  # where both stand, wpe has n_positions rows
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "n_embd": ("n_embd", "hidden_size"),
    "layer_norm_epsilon": ("layer_norm_epsilon",),
}
_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")

# Each field whose value decides what is computed, with the values under which `model.py` is right.
# A field that the file leaves out has the first of them, as in transformers' own defaults.
_ONLY_RIGHT_WITH = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "auto_map": (None, {}),  # names Python code of the model's own, which we would not run
}


def _refuse_other_architectures(fields: dict, where: str) -> None:
    for name, allowed in _ONLY_RIGHT_WITH.items():
        value = fields.get(name, allowed[0])
        if value not in allowed:
            raise ConfigError(
                f"{where}: {name} is {value!r}, and this code computes a GPT-2 in which it is "
                f"{allowed[0]!r}: the model would run and give wrong answers"
            )
    width = fields.get("n_inner")
    if width is not None and (type(fields.get("n_embd")) is int and width != 4 * fields["n_embd"]):
        raise ConfigError(
            f"{where}: n_inner is {width!r}, and this code computes a GPT-2 whose MLP is "
            f"4 x n_embd = {4 * fields['n_embd']} wide"
        )


def _end_id(fields: dict, vocab_size: object) -> int | None:
    """The id that ends a text; None where the file names none that the vocabulary has.

    A list means several ways to end, of which the first is the one that we train. An id out of
    range is what transformers writes for a small vocabulary that nobody told it about: its default.
    """
    end_id = fields.get("eos_token_id", 50256)
    if isinstance(end_id, list):
        end_id = end_id[0] if end_id else None
    in_range = type(end_id) is int and type(vocab_size) is int and 0 <= end_id < vocab_size
    return end_id if in_range else None


def read_config(path: Path) -> GPTConfig:
    """Read a Hugging Face `config.json`, or OpenAI's `hparams.json`."""
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as JSON: {error}") from None
    return GPTConfig.from_dict(fields, str(path))


def _did_you_mean(name: str, fields: dict) -> str:
    close = get_close_matches(name, [str(key) for key in fields], n=1)
    return f" (there is {close[0]!r}: did you mean that?)" if close else ""


def _demo() -> None:
    print(f"{'model':<12} {'layers':>6} {'heads':>6} {'channels':>8} {'parameters':>13}")
    for name, config in PUBLISHED.items():
        c = asdict(config)
        print(
            f"{name:<12} {c['n_layer']:>6} {c['n_head']:>6} {c['n_embd']:>8} "
            f"{config.n_params():>13,}"
        )


if __name__ == "__main__":
    run(_demo)
