"""CRC-32C at more than a gigabyte a second, in numpy: a loop over bytes takes minutes for GPT-2.

A CRC keeps a register of 32 bits. To take in a word of four bytes it XORs the word into the
register and moves the register past four bytes. That move is linear over bits: to move (a ^ b) is
to move a, move b, and XOR. So each word may move alone, past all bytes that follow it, and the
XOR of all of them is the register at the end. The order is ours to choose:

  - Write the message as rows of `lanes` words. Every lane (a column) does what the whole did,
    `lane = past_one_row(lane) ^ word`, independently of its neighbours: one numpy step a row.
  - The lanes at the end are a message of one row. The left half moves past the right half and is
    XORed onto it, and so on by halves until one word is left, which moves past itself.
  - A linear move of 32 bits is known by where it sends each bit. Tabulate it for all low and all
    high halves of a word, and it is two look-ups and a XOR. Twice the distance is the move of the
    move, so 2**k bytes take k doublings.
  - A register of zero stays zero under zeros, so the first row is filled up with zeros in front.
    The real register starts as all ones: these move past the whole message and are XORed too.

    python -m gpt.tf_index             # decodes a small table whose blocks have such CRCs

Source: RFC 3720, appendix B.4; the masking is LevelDB's.
"""

from functools import cache

import numpy as np

_LANES = 1 << 15  # words a row: the fastest measured, as a row and two tables stay in cache
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, with its bits reversed, as the register is
_ALL_ONES = 0xFFFFFFFF


def crc32c(data: bytes | np.ndarray) -> int:
    """The CRC-32C of some bytes, or of the bytes of a contiguous array."""
    message = np.frombuffer(data, np.uint8)
    lanes = min(_LANES, 1 << (message.size // 4).bit_length())  # a power of two; few for a few
    row_bytes = 4 * lanes
    head = message.size % row_bytes

    state = np.zeros(lanes, "<u4")
    state.view(np.uint8)[row_bytes - head :] = message[:head]
    for row in message[head:].view("<u4").reshape(-1, lanes):
        state = _move(state, _log2(row_bytes)) ^ row

    while state.size > 1:
        left, right = state.reshape(2, -1)
        state = _move(left, _log2(4 * right.size)) ^ right
    return int((_move(state, _log2(4)) ^ _all_ones_after(message.size))[0]) ^ _ALL_ONES


def masked(crc: int) -> int:
    """As the files store a CRC: turned and shifted, since the CRC of a CRC is a poor one."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ALL_ONES


def _log2(power_of_two: int) -> int:
    return power_of_two.bit_length() - 1


def _all_ones_after(n_bytes: int) -> np.ndarray:
    """The register's start, moved past each of the powers of two that make up the length."""
    state = np.array([_ALL_ONES], np.uint32)
    for k in range(n_bytes.bit_length()):
        if n_bytes >> k & 1:
            state = _move(state, k)
    return state


def _move(state: np.ndarray, k: int) -> np.ndarray:
    """Move each register past 2**k bytes."""
    low, high = _tables(k)
    # Indices of 16 bits cannot leave a table of 65,536; "wrap" is numpy's cheapest way to know.
    return low.take(state & 0xFFFF, mode="wrap") ^ high.take(state >> 16, mode="wrap")


@cache
def _tables(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where 2**k bytes send every low half and every high half of a register."""
    images = np.uint32(1) << np.arange(32, dtype=np.uint32)  # each bit alone, bit 0 first
    if k == 0:
        for _ in range(8):
            images = images >> 1 ^ (images & 1) * np.uint32(_POLYNOMIAL)
    else:
        images = _move(_move(images, k - 1), k - 1)
    low, high = images.reshape(2, 16)
    return _all_combinations(low), _all_combinations(high)


def _all_combinations(images: np.ndarray) -> np.ndarray:
    table = np.zeros(1, np.uint32)
    for image in images:  # each bit doubles the table: all entries so far, without it and with it
        table = np.concatenate([table, table ^ image])
    return table
