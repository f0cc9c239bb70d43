"""GPT-2 itself. Ids of tokens go in, a score for every possible next token comes out.

    ids ─> wte + wpe ─> h.0 ─> h.1 ─> … ─> ln_f ─> head ─> logits
           token + place  blocks: attention, then MLP      (wte again)

The names are GPT-2's own (`h.3.attn.c_attn.weight` and so on), and so is the layout of every
weight: what stands in the published file is used as it stands, nothing is renamed or transposed.

One letter code, here and in every later chapter:

    B  batch: how many texts at once            C   channels: the width of the stream (n_embd)
    T  time: how many tokens of each are new    nh  attention heads (n_head)
    S  all tokens in sight, T and those before  hs  head size, C / nh
    V  vocabulary: how many tokens there are

    python -m gpt.model         # a tiny GPT, shape by shape; a cache that equals no cache

Sources: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); Vaswani et
al., "Attention Is All You Need" (2017); OpenAI's gpt-2/src/model.py for what the paper leaves out.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gpt.cli import run
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.laid_out import product_if_laid_out
from gpt.product import product

# Who may look at whom: as a matrix of booleans, as a way to attend, or None: the past and oneself.
Mask = Tensor | Callable[[Tensor, Tensor, Tensor], Tensor] | None


class ContextOverflow(UserError):
    """More tokens than the model has positions for."""


class KVCache:
    """The keys and values of the tokens so far, so that each token is computed once.

    Under the causal mask a token never sees what comes after it. Its key and its value in every
    block are therefore final as soon as they are computed, and writing on needs only the new
    tokens to go through the model. The buffers are allocated once, for `max_len` tokens.

    They are written in place, which is for generating: no gradient runs through them. The model
    asks of a cache no more than `length` and `extend`, so another kind can carry some.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        max_len: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (batch_size, config.n_head, max_len, config.head_size)  # (B, nh, max_len, hs)
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.values = [torch.empty_like(keys) for keys in self.keys]
        self.max_len = max_len
        self.length = 0  # tokens that every block has seen; the model moves it on

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new keys and values of a block behind its old ones; return all of them."""
        start, stop = self.length, self.length + k.size(2)
        if stop > self.max_len:
            raise ContextOverflow(
                f"{stop} tokens do not fit a cache made for {self.max_len}: "
                "make it longer, or give fewer"
            )
        self.keys[layer][:, :, start:stop] = k
        self.values[layer][:, :, start:stop] = v
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]  # (B, nh, S, hs)


class Table(nn.Embedding):
    """A row of numbers for each token, or each place.

    On `meta` it has a shape and no numbers. There is nothing to draw at random, and torch would
    import its compiler, nearly two seconds of it, to draw it all the same.
    """

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Projection(nn.Module):
    """x @ weight + bias: a linear layer whose weight is stored [in, out], as GPT-2 stores it.

    `nn.Linear` stores [out, in], and every GPT-2 built from it must transpose four matrices a
    block when it loads. (The other way round is nobody's mistake: GPT-2 called these "conv1d".)
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)  # (B, T, in) -> (B, T, out)


class Attention(nn.Module):
    """Where tokens look at each other: each gathers, from those before it, what it asks for."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = Projection(config.n_embd, 3 * config.n_embd)  # query, key and value at once
        self.c_proj = Projection(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, mask: Mask, cache: KVCache | None, places: Tensor | None
    ) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # each (B, T, C)
        q, k, v = (
            t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, nh, T, hs)
            for t in (q, k, v)
        )
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # (B, nh, S, hs)
        if callable(mask):
            y = mask(q, k, v)  # (B, nh, T, hs)
        else:
            # softmax(q @ k.T / sqrt(hs)) @ v, the scores of the future left out; one fused kernel.
            is_causal = mask is None
            if T == 1:  # one new token has no future to hide, and may see everything
                is_causal = False
            y = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=is_causal,
            )  # (B, nh, T, hs)
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side again
        return self.resid_dropout(self.c_proj(picked(y, places)))


class MLP(nn.Module):
    """Where each token thinks on its own: four times as wide, a bend, and back."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Projection(config.n_embd, 4 * config.n_embd)
        self.c_proj = Projection(4 * config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.recompute = False  # what the bend makes: the widest that is kept for the way back

    def forward(self, x: Tensor) -> Tensor:
        fc = self.c_fc
        # Neither adapted nor quantised, nor watched by a hook.
        if type(fc) is Projection and not (fc._forward_hooks or fc._forward_pre_hooks):
            bent = product_if_laid_out(x, fc.weight, fc.bias, gelu=True)
            if bent is not None:
                return self.resid_dropout(self.c_proj(bent))
        x = fc(x)  # (B, T, 4C)
        # (A compiler decides by itself what to keep.)
        if self.recompute and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            x = checkpoint(self._bent, x, use_reentrant=False)  # stops ahead of the product
        else:
            x = self._bent(x)
        return self.resid_dropout(x)

    def _bent(self, x: Tensor) -> Tensor:
        # The tanh form is what GPT-2 was trained with; the exact GELU differs in the fourth digit.
        return self.c_proj(F.gelu(x, approximate="tanh"))  # (B, T, 4C) -> (B, T, C)


class Block(nn.Module):
    """Attention, then MLP, each added to the stream that it read. The stream itself is never
    normalised, only each reader's copy: gradients run from the last block to the first unhindered.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, mask: Mask, cache: KVCache | None, places: Tensor | None = None
    ) -> Tensor:
        x = picked(x, places) + self.attn(self.ln_1(x), mask, cache, places)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """`model(ids)` -> logits. Two halves that later chapters also call apart: `hidden` and `head`.

    There is no `lm_head` parameter: the head is `wte` read the other way, so the tie cannot break
    and the file cannot hold it twice.
    """

    # The vocabulary files that came with the weights, by name: weights.py reads and writes them, so
    # that a model never loses the only vocabulary that its ids mean anything in.
    vocabulary: dict[str, bytes]

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = {}
        self.recompute = False  # activation checkpointing: see `hidden`
        self.wte = Table(config.vocab_size, config.n_embd)
        self.wpe = Table(config.n_ctx, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        if not self.wte.weight.is_meta:  # nothing to fill when only shapes are wanted
            self._initialise()

    def _initialise(self) -> None:
        """Random weights as GPT-2 began: for training from scratch; loading skips this.

        Each block adds to the stream twice, through its two c_proj. Sums of 2 n_layer independent
        terms grow like their square root, so these start smaller by just that factor.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:  # embeddings and projections; biases are 0 and LayerNorms 1
                n_terms = 2 * self.config.n_layer if name.endswith("c_proj.weight") else 1
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(n_terms))

    def hidden(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        mask: Mask = None,
        cache: KVCache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Ids (B, T) -> what the model knows at each of them, (B, T, C), before the head.

        positions: where each id stands in its text, (T) or (B, T). By default they count on from
            the cache's end. Texts packed into one row, or padded on the left, give their own.
        mask: True where a token (row) may look at another (column), broadcastable to
            (B, nh, T, S). By default causal: each sees itself and all before it, the cache's too.
            Or a function (q, k, v) -> y that attends in a way of its own (preamble.py).
        cache: the tokens that went before. The new ones are added to it.
        places: (N), of the B * T, where it is wanted: (1, N, C). At all others the last block has
            only to be looked at, and does not compute what nobody will look at any more.
        """
        T = ids.size(1)
        past = cache.length if cache is not None else 0
        if positions is None:
            if past + T > self.config.n_ctx:
                raise ContextOverflow(
                    f"{past + T} tokens are more than this model's context of "
                    f"{self.config.n_ctx}: shorten the text"
                )
            positions = torch.arange(past, past + T, device=ids.device)
        if mask is None and past and T > 1:  # without a past, is_causal needs no mask in memory
            mask = causal_mask(T, past, ids.device)

        x = self.drop(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        for block in self.h:
            wanted = places if block is self.h[-1] else None
            if self.recompute and torch.is_grad_enabled():
                # What a block computes inside is forgotten, and computed again on the way back.
                x = checkpoint(block, x, mask, cache, wanted, use_reentrant=False)
            else:
                x = block(x, mask, cache, wanted)
        if cache is not None:
            cache.length += T
        return self.ln_f(x)  # (B, T, C), or (1, N, C)

    def head(self, hidden: Tensor) -> Tensor:
        """(…, C) -> (…, V): how well each token of the vocabulary matches what is known here."""
        return F.linear(hidden, self.wte.weight)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        mask: Mask = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        return self.head(self.hidden(ids, positions, mask, cache))  # (B, T, V)

    def new_cache(self, batch_size: int, max_len: int | None = None) -> KVCache:
        """An empty cache where this model lives, for its whole context unless told otherwise."""
        weight = self.wte.weight
        max_len = self.config.n_ctx if max_len is None else max_len
        return KVCache(self.config, batch_size, max_len, weight.device, weight.dtype)

    def n_params(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def picked(x: Tensor, places: Tensor | None) -> Tensor:
    """(B, T, C) -> (1, N, C), what stands at the places; without any, x as it is."""
    return x if places is None else x.flatten(0, 1).index_select(0, places)[None]


def causal_mask(T: int, past: int, device: torch.device | None = None) -> Tensor:
    """(T, past + T), True where a new token may look: at the whole past, itself, those between."""
    return torch.ones(T, past + T, dtype=torch.bool, device=device).tril(diagonal=past)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout while a text is written; afterwards every part is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _demo() -> None:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=50, n_ctx=16, n_layer=2, n_head=4, n_embd=32)
    model = GPT(config).eval()
    ids = torch.tensor([[7, 3, 9, 9, 1], [4, 4, 2, 8, 30]])
    print(f"a tiny GPT: {config}\n")

    print("its parameters, by the names that GPT-2's files use:")
    for name, parameter in model.named_parameters():
        if not name.startswith("h.1."):
            print(f"  {name:<24} {list(parameter.shape)}")
    print(f"  (h.1 like h.0)           in all {model.n_params():,}\n")

    with torch.no_grad():
        x = model.wte(ids) + model.wpe(torch.arange(5))
        print(f"ids          (B, T)    {list(ids.shape)}")
        print(f"embedded     (B, T, C) {list(x.shape)}")
        print(f"after h.0    (B, T, C) {list(model.h[0](x, None, None).shape)}")
        print(f"hidden       (B, T, C) {list(model.hidden(ids).shape)}")
        logits = model(ids)
        print(f"logits       (B, T, V) {list(logits.shape)}\n")

        print("who may look at whom (rows look at columns), 3 new tokens behind 2 cached ones:")
        for row in causal_mask(3, 2).int().tolist():
            print("  " + " ".join("x" if seen else "." for seen in row))

        edited = ids.clone()
        edited[:, 3] = 11
        change = (model(edited) - logits).abs().amax(dim=(0, 2))
        print("\nchange token 3 and see which logits move: ", end="")
        print(" ".join("yes" if moved else "no" for moved in (change > 1e-6).tolist()))

        cache = model.new_cache(batch_size=2)
        parts = [model(ids[:, :2], cache=cache), model(ids[:, 2:3], cache=cache)]
        parts.append(model(ids[:, 3:], cache=cache))
        same = torch.allclose(torch.cat(parts, dim=1), logits, atol=1e-6)
        print(f"fed as 2 + 1 + 2 tokens through a cache: {'the same' if same else 'OTHER'} logits")


if __name__ == "__main__":
    run(_demo)
