"""How a vocabulary file writes bytes: each as one character that can be seen.

A token is a run of bytes, often not whole characters, and a vocabulary file is text, with a token
to a line or between quotes. GPT-2's way out: a byte that is a visible character stands for itself,
and each of the others borrows one from beyond, so that the space, byte 32, is written Ġ.
"""

from itertools import count


def _byte_alphabet() -> str:
    """The characters that write bytes 0 to 255 in a vocabulary file; unseen bytes borrow one.

    So a token is always one visible word of a text file: the space, byte 32, is written Ġ.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    borrowed = count(0x100)
    return "".join(chr(byte if byte in visible else next(borrowed)) for byte in range(256))


ALPHABET = _byte_alphabet()
# Latin-1 has no U+FFFF: a character from outside the alphabet makes `unspell` fail.
_BYTES = dict.fromkeys(range(256), 0xFFFF) | {ord(char): b for b, char in enumerate(ALPHABET)}


def spell(data: bytes) -> str:
    """Bytes as a vocabulary file writes them."""
    return data.decode("latin-1").translate(ALPHABET)


def unspell(token: str) -> bytes:
    return token.translate(_BYTES).encode("latin-1")
