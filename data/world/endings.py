"""The rules of English endings: a or an, and plurals; and what no rule gives.

The checker (data/checking) knows these things a second time, in its own way.
"""

from data.world.table import table

IRREGULAR_PLURALS = dict(
    table("""
one | many
mouse | mice
child | children
man | men
woman | women
foot | feet
tooth | teeth
goose | geese
ox | oxen
person | people
sheep | sheep
deer | deer
fish | fish
salmon | salmon
trout | trout
tuna | tuna
leaf | leaves
knife | knives
wolf | wolves
half | halves
shelf | shelves
wife | wives
life | lives
calf | calves
loaf | loaves
thief | thieves
scarf | scarves
potato | potatoes
tomato | tomatoes
hero | heroes
mango | mangoes
mosquito | mosquitoes
postman | postmen
fisherman | fishermen
pack of cards | packs of cards
piece of furniture | pieces of furniture
piece of clothing | pieces of clothing
octopus | octopuses
starfish | starfish
""")
)


def article(phrase: str) -> str:
    """a or an, by how the phrase sounds."""
    if phrase[:3] in ("uni", "eur", "one") or phrase[:2] == "ew":
        return "a"
    if phrase.startswith(("hour", "honest")):
        return "an"
    return "an" if phrase[0].lower() in "aeiou" else "a"


def a(phrase: str) -> str:
    return f"{article(phrase)} {phrase}"


def plural_of(noun: str) -> str:
    """mouse: mice; city: cities; box: boxes; day: days."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def third_person(verb: str) -> str:
    """As he or she does it: throw, throws; carry, carries; go, goes."""
    return "has" if verb == "have" else verb + "es" if verb.endswith("o") else plural_of(verb)
