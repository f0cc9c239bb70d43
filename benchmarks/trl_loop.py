"""TRL's SFTTrainer on the same ids, the same steps and the same weights.

It runs its own `train()` on the steps of a round; the clock runs from the beginning of the epoch to
its end, so that what it sets up once a run is not counted. Two settings of it:

    as shipped    what SFTConfig says by itself: activations computed twice
    tuned         the best found for short instructions: activations kept, no log lines

Both are given: completion-only loss, AdamW in one kernel (its own default), the same rate, no decay
and no clipping. bf16 where our own run would choose it, and fp32 where that is faster. Its
padding-free ways need FlashAttention; without it they let examples see each other. Its attention
stays transformers' own choice: on a CPU, eager attention takes as long.
"""

import tempfile
import time
from typing import Any

import torch

from benchmarks.our_loop import synchronize
from benchmarks.work import Work
from benchmarks.workers import as_torch_comes, forget_peak, peak_memory
from gpt.hardware import choose_precision, features_of
from gpt.optimizer import length_of

PACKAGES = ("trl", "transformers", "datasets", "accelerate")
TUNED = {"gradient_checkpointing": False, "logging_strategy": "no"}
SHIPPED: dict[str, Any] = {}


class TrlLoop:
    def __init__(self, work: Work, settings: dict[str, Any]) -> None:
        import datasets
        import transformers

        as_torch_comes()
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        if work.threads:
            torch.set_num_threads(work.threads)
        self.work, self.settings = work, settings
        self.device = torch.device(work.device)
        self.trainer: Any = None
        self.clock = _clock(self.device)

    def first_step(self, _: str, step: list[int]) -> tuple[float, float]:
        """The loss of its own training_step, and the length of the gradient that it leaves."""
        self.trainer = None
        forget_peak(self.device)
        trainer = self._trainer("fp32", len(step))
        trainer.train_dataset = trainer.train_dataset.select(step)
        batches = iter(trainer.get_train_dataloader())
        [batch], n_items = trainer.get_batch_samples(batches, 1, self.device)
        loss = trainer.training_step(trainer.model, batch, n_items)
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        return loss.item(), length_of(gradients).item()

    def train(self, _: str, steps: list[list[int]]) -> float:
        if self.trainer is None:
            precision = choose_precision(self.work.precision, features_of(self.device))
            self.trainer = self._trainer(precision.name, len(steps[0]))
            self.everything = self.trainer.train_dataset
        flat = [i for step in steps for i in step]
        self.trainer.train_dataset = self.everything.select(flat)
        self.trainer.train()
        return self.clock.seconds

    def peak_memory(self) -> int | None:
        return peak_memory(self.device)

    def _trainer(self, precision: str, batch_size: int) -> Any:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.trainer_callback import PrinterCallback
        from trl import SFTConfig, SFTTrainer

        work = self.work
        tokenizer = AutoTokenizer.from_pretrained(work.folder)
        tokenizer.pad_token = tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(work.folder, dtype=torch.float32)
        for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):
            assert getattr(model.config, name) == 0, name
        pairs = [work.pair(i) for i in range(len(work.examples))]
        rows = {
            "input_ids": [[*ids, work.end_id] for ids, _ in pairs],
            "completion_mask": [[*map(int, learn), int(learn[-1])] for _, learn in pairs],
        }
        config = SFTConfig(
            output_dir=tempfile.gettempdir(),
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            train_sampling_strategy="sequential",  # the steps come ready
            learning_rate=work.lr,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,
            completion_only_loss=True,
            max_length=None,
            bf16=precision == "bf16",
            fp16=precision == "fp16",
            optim="adamw_torch_fused",
            use_cpu=self.device.type == "cpu",
            dataloader_pin_memory=self.device.type == "cuda",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **self.settings,
        )
        trainer = SFTTrainer(
            model,
            config,
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            callbacks=[self.clock],
        )
        trainer.remove_callback(PrinterCallback)
        assert len(trainer.train_dataset) == len(pairs), "SFTTrainer dropped examples"
        return trainer


def _clock(device: torch.device) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds = began = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            synchronize(device)
            self.began = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            synchronize(device)
            self.seconds = time.perf_counter() - self.began

    return Clock()
