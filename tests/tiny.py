"""What most tests need: models small enough to be made in a test, with no weight left at zero."""

from dataclasses import replace

import torch

from gpt.config import PUBLISHED, GPTConfig
from gpt.model import GPT

TINY = GPTConfig(vocab_size=97, n_ctx=32, n_layer=2, n_head=2, n_embd=8, dropout=0.0)


def narrow(name: str, head_size: int = 2) -> GPTConfig:
    """A published architecture, block for block and head for head, with few channels."""
    published = PUBLISHED[name]
    n_embd = published.n_head * head_size
    rare = {"dropout": 0.0, "layer_norm_epsilon": 1e-3, "end_id": None}  # not torch's own default
    return replace(published, vocab_size=211, n_embd=n_embd, **rare)


def random_model(config: GPTConfig = TINY, seed: int = 0) -> GPT:
    """All parameters random, biases and norms too: a bias that stays 0 could hide a lost one."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = GPT(config).eval()
        for name, parameter in model.named_parameters():
            scale = 0.2 if parameter.dim() == 2 and "wpe" not in name else 0.1
            parameter += scale * torch.randn_like(parameter)
    return model


def random_ids(batch: int, length: int, config: GPTConfig = TINY, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)
