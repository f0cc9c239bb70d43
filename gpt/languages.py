"""A guess at the language of a text, for the data card: good for counting, not for deciding.

Some scripts are one language's. Latin letters are many languages', and there the most frequent
small words decide: `the` and `of`, `ve` and `bir`. Turkish says with endings what others say with
small words, so there an ending decides too, in a text with one of the letters `ğ ı ş İ`; the letter
alone is no sign, as names have it in every language. Where nothing is in favour of one language (a
name, a sum, a language not in the list), the guess is "undecided". No model, no download.
"""

import re
from collections import Counter
from itertools import chain

UNDECIDED = "undecided"

_SCRIPTS = {
    "Japanese": "\u3040-\u30ff",  # before Chinese, whose characters it uses too
    "Chinese": "\u3400-\u9fff",
    "Korean": "\u1100-\u11ff\uac00-\ud7af",
    "Greek": "\u0370-\u03ff",
    "Hebrew": "\u0590-\u05ff",
    "Thai": "\u0e00-\u0e7f",
    "Cyrillic script": "\u0400-\u052f",
    "Arabic script": "\u0600-\u06ff",
    "Devanagari script": "\u0900-\u097f",
}
_LETTERS = {script: re.compile(f"[{letters}]") for script, letters in _SCRIPTS.items()}
_SHARE = {"Japanese": 0.2}  # of the letters: its own are fewer than the Chinese ones among them

_SMALL_WORDS = {
    "English": "the of and to is are was in that for with this it you your what how on by from an",
    "Turkish": "bir ve bu için ile da ne mi mı nasıl nedir olan olarak çok daha gibi hangi kaç var",
    "German": "der die das und ist nicht ein eine mit von zu den für auf wie sind im dem ich sie",
    "French": "le les des et est une dans pour que qui du pas sur au avec il elle sont ce quelle",
    "Spanish": "el los las y una que con por del es en para como su más qué cuál está son al lo",
    "Italian": "il di che è per una con del della sono gli nel come più dei si alla questo lo le",
    "Portuguese": "o os um uma que para com não do da em mais como são foi ao dos das você é qual",
    "Dutch": "het een van dat niet voor met zijn op te ik je wat hoe deze worden ook maar naar de",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _small_word in _words.split():
        _LANGUAGES_OF.setdefault(_small_word, []).append(_language)
_WORD = re.compile(r"[^\W\d_]+")

_TURKISH_LETTER = re.compile("[ğışİ]")
_OTHER_ALPHABET = re.compile("[əêñňýăţțș]")  # Azerbaijani, Kurdish, Turkmen, Romanian share letters
_TURKISH_ENDING = re.compile(
    r"[^\W\d_]{3}(?:[dt][ıiuü]r|mış|miş|muş|müş|nın|nin|nun|nün|nız|niz|nuz|nüz|ları|leri|daki|deki"
    r"|mak|mek|ıyor|iyor|uyor|üyor|acak|ecek)\b"
    r"|[^\W\d_]['’](?:n[ıiuü]n|[dt][ae]n?|y[aeıiuü])\b"  # behind a name: Ankara'nın, İzmir'de
)


def language_of(text: str) -> str:
    """The language that a text seems to be in; its script, if that is all there is to see."""
    return _by_script(text) or _by_small_words(text) or _by_endings(text) or UNDECIDED


def _by_script(text: str) -> str | None:
    if text.isascii():
        return None
    n_letters = sum(map(str.isalpha, text))
    for script, letters in _LETTERS.items():
        n = len(letters.findall(text))
        if n and n >= _SHARE.get(script, 0.5) * n_letters:
            return script
    return None


def _by_small_words(text: str) -> str | None:
    words = _WORD.findall(_lower(text))
    hits = Counter(chain.from_iterable(_LANGUAGES_OF.get(word, ()) for word in words))
    (best, n_best), (_, n_second) = [*hits.most_common(2), (None, 0), (None, 0)][:2]
    return best if n_best > n_second else None


def _by_endings(text: str) -> str | None:
    if not _TURKISH_LETTER.search(text):
        return None
    text = _lower(text)
    is_turkish = _TURKISH_ENDING.search(text) and not _OTHER_ALPHABET.search(text)
    return "Turkish" if is_turkish else None


def _lower(text: str) -> str:
    return text.replace("İ", "i").lower()  # by itself, lower() puts a dot behind the i: two words
