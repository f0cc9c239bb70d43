"""The book's own loop, from its package `llms-from-scratch`, on the same ids, steps and weights.

Its model (chapter 4), its collate (chapter 7), its loop (`train_model_simple` of chapter 5) and its
optimizer, as published: plain AdamW, a head of its own beside the embedding. Two things are done
around them, and none of it is timed to its disadvantage: the targets of the prompt are set to -100,
as in its exercise 7.2, and its validation and sample text at the end of an epoch are left out.

The head is not tied to the embedding there, so its gradient comes in two parts. Their sum is what a
tied model has, and is what is compared.
"""

import time
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.our_loop import synchronize
from benchmarks.work import Work
from benchmarks.workers import as_torch_comes, forget_peak, peak_memory
from gpt.config import GPTConfig
from gpt.optimizer import length_of
from gpt.weights import load_model

PACKAGES = ("llms_from_scratch", "psutil")


class BookLoop:
    def __init__(self, work: Work) -> None:
        as_torch_comes()
        if work.threads:
            torch.set_num_threads(work.threads)
        self.work = work
        self.device = torch.device(work.device)
        self._begin()

    def _begin(self) -> None:
        self.model = book_model(self.work).to(self.device).train()
        rate = self.work.lr
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.0)

    def first_step(self, _: str, step: list[int]) -> tuple[float, float]:
        from llms_from_scratch.ch05 import calc_loss_batch

        self._begin()
        forget_peak(self.device)
        model = self.model
        [(inputs, targets)] = self._loader([step])
        loss = calc_loss_batch(inputs, targets, model, self.device)
        loss.backward()
        model.tok_emb.weight.grad += model.out_head.weight.grad
        model.out_head.weight.grad = None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = length_of(gradients).item()
        model.zero_grad()
        return loss.item(), norm

    def train(self, _: str, steps: list[list[int]]) -> float:
        from llms_from_scratch import ch05

        loader = self._loader(steps)
        nothing: Any = {"evaluate_model": lambda *_: (0.0, 0.0)}
        nothing["generate_and_print_sample"] = lambda *_: None
        with patch.multiple(ch05, **nothing):
            synchronize(self.device)
            start = time.perf_counter()
            ch05.train_model_simple(
                self.model, loader, None, self.optimizer, self.device, 1, 10**9, 0, "", None
            )
            synchronize(self.device)
            return time.perf_counter() - start

    def peak_memory(self) -> int | None:
        return peak_memory(self.device)

    def _loader(self, steps: list[list[int]]) -> torch.utils.data.DataLoader:
        from llms_from_scratch.ch07 import custom_collate_fn

        def collate(pairs: list[tuple[list[int], list[bool]]]) -> tuple[Tensor, Tensor]:
            ids = [ids for ids, _ in pairs]
            inputs, targets = custom_collate_fn(ids, self.work.end_id, device=self.device)
            for row, (_, learn) in zip(targets, pairs, strict=True):
                row[: len(learn) - 1][~torch.tensor(learn[1:], device=row.device)] = -100
            return inputs, targets

        pairs = {i: self.work.pair(i) for step in steps for i in step}
        return torch.utils.data.DataLoader(pairs, batch_sampler=steps, collate_fn=collate)


def book_model(work: Work) -> Any:
    """Its GPTModel with our weights, put there by its own function."""
    from llms_from_scratch.ch04 import GPTModel
    from llms_from_scratch.ch05 import load_weights_into_gpt

    config: GPTConfig = work.config
    model = GPTModel(
        {
            "vocab_size": config.vocab_size, "context_length": config.n_ctx,
            "emb_dim": config.n_embd, "n_heads": config.n_head, "n_layers": config.n_layer,
            "drop_rate": 0.0, "qkv_bias": True,
        }
    )  # fmt: skip
    ours = {k: v.numpy() for k, v in load_model(work.folder).state_dict().items()}

    def block(i: int) -> dict[str, Any]:
        def both(part: str, w: str = "w", b: str = "b") -> dict[str, Any]:
            return {w: ours[f"h.{i}.{part}.weight"], b: ours[f"h.{i}.{part}.bias"]}

        return {
            "attn": {"c_attn": both("attn.c_attn"), "c_proj": both("attn.c_proj")},
            "mlp": {"c_fc": both("mlp.c_fc"), "c_proj": both("mlp.c_proj")},
            "ln_1": both("ln_1", "g"),
            "ln_2": both("ln_2", "g"),
        }

    parameters = {
        "wte": ours["wte.weight"], "wpe": ours["wpe.weight"],
        "g": ours["ln_f.weight"], "b": ours["ln_f.bias"],
        "blocks": [block(i) for i in range(config.n_layer)],
    }  # fmt: skip
    load_weights_into_gpt(model, parameters)
    return model
