"""Who walks through the texts: a small cast, so that names cost the model little."""

from typing import NamedTuple

from data.world.table import words


class Person(NamedTuple):
    name: str
    he: str
    him: str
    his: str
    child: str  # boy or girl


GIRLS = words("Mira Anna Elif Nora Ella Lena Rosa Ivy Zoe Ada Maya Ruth")
BOYS = words("Tom Ben Emre Leo Max Omar Hugo Finn Kai Sam Paul Adam")
CAST = tuple(Person(name, "she", "her", "her", "girl") for name in GIRLS)
CAST += tuple(Person(name, "he", "him", "his", "boy") for name in BOYS)

# Who is asked in stories: they have no names, and know everything.
WISE = (
    "the teacher",
    "the old man",
    "the old woman",
    "the librarian",
    "the doctor next door",
    "the gardener",
    "the captain",
)
