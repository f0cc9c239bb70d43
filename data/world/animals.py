"""Animals: what they are, what their young are called, what they say, where they live, what on.

Where people use several words (a wolf's young is a pup or a cub) the cell holds `-`, and nobody is
asked. Nor is anybody asked back for a word that several animals share: bears have cubs, too. A home
or a food is the one that every child's book gives.
"""

from data.world.table import table, words

ANIMALS = table("""
animal | class | young | sound | home | food | group | legs
cow | mammal | calf | moo | barn | grass | herd | 4
dog | mammal | puppy | bark | kennel | - | - | 4
cat | mammal | kitten | meow | - | mice | - | 4
horse | mammal | foal | neigh | stable | hay | - | 4
sheep | mammal | lamb | bleat | - | grass | flock | 4
goat | mammal | kid | - | - | - | - | 4
pig | mammal | piglet | grunt | sty | - | - | 4
donkey | mammal | - | bray | - | - | - | 4
lion | mammal | cub | roar | - | meat | pride | 4
tiger | mammal | - | - | jungle | meat | - | 4
wolf | mammal | - | howl | - | meat | pack | 4
bear | mammal | - | growl | den | - | - | 4
panda | mammal | - | - | - | bamboo | - | 4
fox | mammal | - | - | den | - | - | 4
deer | mammal | fawn | - | forest | leaves | herd | 4
rabbit | mammal | - | - | burrow | grass | - | 4
mouse | mammal | - | squeak | hole | grain | - | 4
squirrel | mammal | - | - | tree | nuts | - | 4
elephant | mammal | - | trumpet | - | - | herd | 4
monkey | mammal | - | chatter | jungle | fruit | troop | -
kangaroo | mammal | joey | - | - | grass | mob | -
koala | mammal | - | - | tree | leaves | - | 4
camel | mammal | - | - | desert | - | - | 4
giraffe | mammal | - | - | savanna | leaves | - | 4
zebra | mammal | - | - | savanna | grass | - | 4
beaver | mammal | - | - | lodge | bark | - | 4
mole | mammal | - | - | - | worms | - | 4
seal | mammal | pup | - | sea | fish | - | -
whale | mammal | - | - | sea | - | pod | -
dolphin | mammal | - | - | sea | fish | pod | -
bat | mammal | - | - | cave | insects | colony | -
hen | bird | chick | cluck | coop | grain | - | 2
rooster | bird | - | crow | - | - | - | 2
duck | bird | duckling | quack | pond | - | - | 2
goose | bird | gosling | honk | - | - | gaggle | 2
swan | bird | cygnet | - | lake | - | - | 2
owl | bird | owlet | hoot | - | mice | parliament | 2
eagle | bird | eaglet | - | nest | - | - | 2
crow | bird | - | caw | nest | - | murder | 2
pigeon | bird | squab | coo | - | - | - | 2
penguin | bird | - | - | Antarctica | fish | colony | 2
robin | bird | - | - | garden | worms | - | 2
woodpecker | bird | - | - | - | insects | - | 2
vulture | bird | - | - | - | carrion | - | 2
shark | fish | - | - | sea | - | - | -
salmon | fish | - | - | - | - | - | -
trout | fish | - | - | river | - | - | -
tuna | fish | - | - | sea | - | - | -
frog | amphibian | tadpole | croak | pond | - | - | 4
toad | amphibian | - | - | - | - | - | 4
newt | amphibian | - | - | - | - | - | 4
snake | reptile | - | hiss | - | - | - | -
lizard | reptile | - | - | - | - | - | 4
crocodile | reptile | - | - | river | - | - | 4
tortoise | reptile | - | - | - | lettuce | - | 4
bee | insect | - | buzz | hive | nectar | swarm | 6
ant | insect | - | - | anthill | - | - | 6
butterfly | insect | caterpillar | - | - | - | - | 6
beetle | insect | - | - | - | - | - | 6
cricket | insect | - | chirp | - | - | - | 6
mosquito | insect | - | - | - | - | swarm | 6
spider | - | spiderling | - | web | flies | - | 8
crab | - | - | - | - | - | - | 10
""")

# Said of other animals as well, here or in the wide world: nobody is asked which animal it is.
SHARED = {
    "young": words("cub calf foal joey tadpole pup chick"),
    "sound": words(
        "roar grunt howl growl bleat hiss squeak croak buzz chirp bark chatter trumpet honk"
    ),
}
