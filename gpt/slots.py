"""A cache for rows of all lengths: each has a slot, and goes on behind its own last token.

               slot 0   P P P a a a a . .       P  what all rows begin with, computed once
               slot 1   P P P b b . . . .       .  free, or left by a row that has ended:
               slot 2   P P P c c c c c .          masked, until it is written over

`KVCache` in model.py holds rows that grow together. Here, before each pass, the cache is told which
of two kinds it is: prompts that are read whole, into slots beside each other, or a token more for
each row, wherever that stands, and behind it some that are only guessed (lookup.py). On a CPU, what
some prompts begin with alike is computed once for them (preamble.py), and the cache puts it into
the slot of each. The rows at work always have the first slots, so that a pass looks at a slice of
the buffers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.hardware import has_amx, to_device
from gpt.model import GPT, Mask, causal_mask
from gpt.preamble import Beginnings, each_once

_MULTIPLE = 8  # tokens: kernels like to look at whole lines of memory
_GROUP = 56  # rows that look equally far: two groups of 110 rows, a little faster than four
_FEW = 8  # slots: for fewer rows one kernel, which looks at all there is, is as good


class Slots:
    """Keys and values of many rows. To the model a cache: `length` and `extend`."""

    def __init__(self, n_layer: int, n_slots: int, max_len: int) -> None:
        self.max_len = _whole_lines(max_len)
        self.length = 0  # tokens that rows which read have already
        self._shape = n_layer, n_slots
        self._dtype: torch.dtype | None = None  # of the model's keys; kept they may be wider
        self._all: Tensor | None = None  # (2, n_layer, n_slots, nh, max_len, hs)
        self._keys: tuple[Tensor, ...] = ()  # of each layer, (n_slots, nh, max_len, hs): its parts
        self._values: tuple[Tensor, ...] = ()
        self._first = 0  # the slot of the first row that reads
        self._texts: Beginnings | None = None  # what is read, where it comes as one row
        self._places: Tensor | None = None  # (B, T), where each row writes; None: they read
        self._lines: Tensor | None = None  # (B * nh * T), these among all vectors of a layer
        self._n_shared = 0  # tokens that all slots begin with
        self._groups: list[tuple[slice, int, Tensor]] = []  # rows, how far they look, their mask

    def read(self, first: int, past: int) -> None:
        """In the next pass, each slot from `first` on gets a text behind its `past` tokens."""
        self._first, self.length, self._places, self._texts = first, past, None, None
        self._groups = []

    def read_as_one(self, first: int, past: int, texts: Beginnings) -> Mask:
        """The same where the texts come as one row, each beginning once. Returns how it attends."""
        self.read(first, past)
        self._texts, T = texts, texts.at.size(1)
        mask = causal_mask(T, past, texts.at.device) if past else None

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # (1, nh, N, hs), (B, nh, S, hs)
            q = _put_in_rows(q, texts.at)  # (B, nh, T, hs)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            y = y.transpose(0, 1).flatten(1, 2)[None]  # (1, nh, B * T, hs)
            return _put_in_rows(y, texts.firsts[None])  # (1, nh, N, hs)

        return attend

    def write(self, places: Tensor, numbers: list[int]) -> Mask:
        """In the next pass, each row gets tokens at its places (B, T), side by side; `numbers` are
        the last of each. Returns the mask, (B, 1, T, S), or a way to attend: all up to a token.
        """
        mask = self._write(places, _whole_lines(max(numbers) + 1))
        if places.size(1) > 1 or not _looks_in_groups(places.device, self._shape[1]):
            return mask
        hidden = torch.zeros(mask[:, 0].shape, dtype=self._keys[0].dtype)  # (B, 1, S)
        hidden.masked_fill_(~mask[:, 0], -math.inf)
        for start in range(0, len(numbers), _GROUP):
            rows = slice(start, start + _GROUP)
            stop = _whole_lines(max(numbers[rows]) + 1)
            self._groups.append((rows, stop, hidden[rows, :, :stop]))
        return self._attend

    def write_within(self, places: Tensor, n_seen: int) -> Tensor:
        """The same where the places are known on the device alone, and none is beyond `n_seen`.
        Returns a mask that is added, (B, 1, T, S): from booleans each layer would make its own.
        """
        mask = self._write(places, n_seen)
        added = torch.zeros(mask.shape, dtype=self._dtype, device=mask.device)
        return added.masked_fill_(~mask, -math.inf)

    def _write(self, places: Tensor, n_seen: int) -> Tensor:
        self._places, self._n_seen, self._groups = places, n_seen, []  # n_seen is S
        nh = self._keys[0].size(1)
        heads = torch.arange(len(places) * nh, device=places.device).view(-1, nh, 1)
        self._lines = (heads * self.max_len + places[:, None]).flatten()  # of (B, nh, T)
        there = torch.arange(n_seen, device=places.device)
        return (there <= places[:, :, None])[:, None]  # (B, 1, T, S)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q @ k.T / sqrt(hs)) @ v, for q (B, nh, 1, hs) -> (B, nh, 1, hs), of the keys'
        type inside. Rows of q beyond those that write are nobody's, and get zeros.
        """
        n_vain = len(q) - len(k)
        attended = self._by_kernel if k.dtype.itemsize < 4 else self._written_out
        with torch.autocast("cpu", enabled=False):
            y = attended(q[: len(k)].to(k.dtype), k, v).to(q.dtype)
        return F.pad(y, (0, 0, 0, 0, 0, 0, 0, n_vain)) if n_vain else y

    def _by_kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = []
        for rows, stop, hidden in self._groups:
            k_seen, v_seen = k[rows, :, :stop], v[rows, :, :stop]
            hidden = hidden[:, None]  # (B, 1, 1, stop)
            y.append(F.scaled_dot_product_attention(q[rows], k_seen, v_seen, attn_mask=hidden))
        return torch.cat(y)

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One softmax over scores from two places: of the shared tokens, for all rows in one
        product, and of each row's own.
        """
        n = self._n_shared
        q = q / math.sqrt(q.size(-1))
        by_head = q[:, :, 0].transpose(0, 1)  # (nh, B, hs)
        of_shared = (by_head @ k[0, :, :n].transpose(1, 2)).transpose(0, 1)  # (B, nh, n)
        y, to_shared = [], []
        for rows, stop, hidden in self._groups:
            of_own = (q[rows] @ k[rows, :, n:stop].transpose(2, 3))[:, :, 0]  # (…, nh, stop - n)
            shares = torch.cat([of_shared[rows], of_own + hidden[:, :, n:]], 2).softmax(2)
            to_shared.append(shares[:, :, :n])
            y.append(shares[:, :, None, n:] @ v[rows, :, n:stop])  # (…, nh, 1, hs)
        of_all = torch.cat(to_shared).transpose(0, 1) @ v[0, :, :n]  # (nh, B, hs)
        return torch.cat(y) + of_all.transpose(0, 1)[:, :, None]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put away the new keys and values of a block, (B, nh, T, hs), or of one row that stands
        for several; return all to look at, (B, nh, S, hs).
        """
        if self._all is None:  # of the type of the first keys: autocast may have its own
            shape = (2, *self._shape, k.size(1), self.max_len, k.size(3))
            # Not `empty`: what is masked still counts 0 times, and 0 x NaN would be NaN.
            self._dtype = k.dtype
            self._all = k.new_zeros(shape, dtype=_kept_as(k.dtype, k.device, self._shape[1]))
            self._keys, self._values = (of_all.unbind() for of_all in self._all)
        all_k, all_v = self._put(self._keys[layer], k), self._put(self._values[layer], v)
        # `_attend` takes them as they lie; a kernel wants all of one type.
        return (all_k, all_v) if self._groups else (all_k.to(k.dtype), all_v.to(v.dtype))

    def _put(self, buffer: Tensor, new: Tensor) -> Tensor:
        if self._places is None:
            if self._texts is not None:
                new = _put_in_rows(new, self._texts.at)
            rows = buffer[self._first : self._first + len(new), :, : self.length + new.size(2)]
            rows[:, :, self.length :] = new
            return rows
        B = len(self._places)  # there may be more: nobody's
        vectors = new[:B].flatten(0, 2).to(buffer.dtype).contiguous()  # (B * nh * T, hs)
        _as_words(buffer.view(-1, new.size(3)))[self._lines] = _as_words(vectors)
        return buffer[:B, :, : self._n_seen]  # (B, nh, S, hs)

    def share(self, n: int) -> None:
        """Let every slot begin with the first n tokens of slot 0."""
        self._n_shared = n
        self._all[:, :, 1:, :, :n] = self._all[:, :, :1, :, :n]

    def move(self, source: int, target: int, n: int) -> None:
        """Copy the first n tokens of a slot over those of another."""
        self._all[:, :, target, :, :n] = self._all[:, :, source, :, :n]


def read_into(
    slots: Slots, first: int, model: GPT, texts: list[list[int]], past: int, places: Tensor
) -> Tensor:
    """Each text into a slot, from `first` on, behind the `past` tokens there: (N, C) at the places,
    of B x T where T is the length of the longest.
    """
    if len(texts) == 1 or places.device.type != "cpu":
        # A GPU computes a token sooner than Python tells whether it has been computed.
        return read_filled_up(slots, first, model, texts, past, places)
    once = each_once(texts, n=0, T=max(map(len, texts)))
    attend = slots.read_as_one(first, past, once)
    places = once.at.flatten()[places]
    return model.hidden(once.ids[None], once.positions + past, attend, slots, places)[0]


def read_filled_up(
    slots: Slots, first: int, model: GPT, texts: list[list[int]], past: int, places: Tensor
) -> Tensor:
    """The same, each text in a row of its own."""
    T = max(map(len, texts))
    slots.read(first, past)
    ids = torch.tensor([text + [0] * (T - len(text)) for text in texts])
    return model.hidden(to_device(ids, places.device), cache=slots, places=places)[0]


def _put_in_rows(x: Tensor, numbers: Tensor) -> Tensor:
    """(1, nh, N, hs), numbers (B, T) -> (B, nh, T, hs)."""
    return x[0][:, numbers].transpose(0, 1)


def _as_words(x: Tensor) -> Tensor:
    """(…, hs), the same memory as numbers of 8 bytes, if it is so many: sooner moved than smaller
    ones. It is the number of them that counts, and not what they hold.
    """
    fits = x.size(-1) * x.element_size() % 8 == 0 and x.device.type == "cpu"
    return x.view(torch.int64) if fits else x


def _whole_lines(n: int) -> int:
    return -(-n // _MULTIPLE) * _MULTIPLE


def _looks_in_groups(device: torch.device, n_slots: int) -> bool:
    return device.type == "cpu" and n_slots >= _FEW


def _kept_as(dtype: torch.dtype, device: torch.device, n_slots: int) -> torch.dtype:
    """Keys narrower than fp32 are fewer bytes to read, where a kernel is fast at them: on a CPU
    with AMX. To make the keys of many rows wider for each token takes longer than all the rest of
    attention: so on other CPUs they lie in memory as fp32.
    """
    if _looks_in_groups(device, n_slots) and not has_amx():
        return torch.promote_types(dtype, torch.float32)
    return dtype


def rows_that_fit(model: GPT, max_len: int) -> int:
    """How many rows at once: more are faster up to a point, and each takes memory for a cache."""
    config, weight = model.config, model.wte.weight
    of_a_row = 2 * config.n_layer * config.n_embd * max_len  # numbers
    if weight.device.type == "cuda":
        scores = 8 * config.vocab_size  # bytes of a row; as a recorded pass keeps them (decoding)
        most, memory = 256, torch.cuda.mem_get_info(weight.device)[0] // 2
    else:
        scores, most, memory = 0, 128, 2 * 2**30

    def that_fit(n_slots: int) -> int:  # of a cache for so many
        dtype = _kept_as(weight.dtype, weight.device, n_slots)
        return min(most, memory // (of_a_row * dtype.itemsize + scores))

    n_rows = that_fit(most)
    return n_rows if n_rows >= _FEW else max(1, min(_FEW - 1, that_fit(1)))
