"""What people do in the sentences that are turned: who, what, with which forms of the verb."""

from typing import NamedTuple

from data.world.table import table, words


class Action(NamedTuple):
    base: str
    present: str  # with he or she
    past: str
    participle: str
    objects: tuple[str, ...]


ACTIONS = tuple(
    Action(*forms, words(objects))
    for *forms, objects in table("""
base | present | past | participle | objects
eat | eats | ate | eaten | apple cake soup pear
drink | drinks | drank | drunk | milk tea juice
write | writes | wrote | written | letter story song
paint | paints | painted | painted | door wall fence
wash | washes | washed | washed | car dog cup
open | opens | opened | opened | door window box
close | closes | closed | closed | door gate book
carry | carries | carried | carried | basket bag box
find | finds | found | found | key coin ring
clean | cleans | cleaned | cleaned | room table floor
throw | throws | threw | thrown | ball stone stick
catch | catches | caught | caught | ball fish thief
sell | sells | sold | sold | car boat house
buy | buys | bought | bought | hat book lamp
break | breaks | broke | broken | cup window plate
bake | bakes | baked | baked | bread cake pie
build | builds | built | built | house wall boat
see | sees | saw | seen | ship moon bird
take | takes | took | taken | bag book coat
bring | brings | brought | brought | chair lamp letter
""")
)
DOERS = ("the boy", "the girl", "the king", "the farmer", "the baker", "the teacher", "the cook")

# What can be said of somebody with is: where, or how.
STATES = (
    "in the garden",
    "at school",
    "at home",
    "in the kitchen",
    "on the boat",
    "tired",
    "hungry",
    "happy",
    "ready",
    "late",
    "a teacher",
    "a farmer",
)
ABILITIES = words("swim sing dance cook read write ski jump")
