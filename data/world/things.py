"""Things: their colours, what they are made of or from, and what kind of thing they are."""

from data.world.table import table, words

# What has no plural and no article: snow, not a snow.
MASS = words("""
snow grass milk salt coal blood chocolate spinach lettuce ivory chalk soot ash cotton honey
cheese butter yogurt wine ketchup cider tofu beer popcorn toast flour bread paper glass plastic
marzipan porridge hummus sauerkraut lemonade steel bronze charcoal pasta wool silk beef pork ham
mutton venison rice wheat barley rye maize cream tea coffee juice water cinnamon saffron cumin
iron gold copper hair mayonnaise ginger bacon caramel cocoa silver tin zinc tennis football chess
hockey golf rugby sushi ramen pizza risotto lasagne paella gazpacho guacamole goulash moussaka
souvlaki borscht pho ceviche feijoada kimchi bibimbap ratatouille schnitzel sauerbraten bigos
poutine biryani
""")
MASS = (*MASS, "peanut butter", "olive oil", "mole sauce", "onion soup", "doner kebab", "dim sum")
MASS = (*MASS, "jerk chicken", "pad thai")

COLOURS = table("""
thing | colour
grass | green
snow | white
coal | black
lemon | yellow
banana | yellow
blood | red
tomato | red
strawberry | red
carrot | orange
pumpkin | orange
milk | white
salt | white
soot | black
chocolate | brown
cucumber | green
pea | green
ruby | red
emerald | green
sapphire | blue
flamingo | pink
raven | black
swan | white
polar bear | white
elephant | grey
sunflower | yellow
spinach | green
violet | purple
poppy | red
ash | grey
cherry | red
lettuce | green
canary | yellow
ivory | white
chestnut | brown
lime | green
raspberry | red
blueberry | blue
cornflower | blue
panther | black
egg yolk | yellow
""")

MATERIALS = table("""
thing | material
window | glass
mirror | glass
lens | glass
book | paper
newspaper | paper
envelope | paper
tyre | rubber
eraser | rubber
candle | wax
sweater | wool
mitten | wool
nail | iron
anvil | iron
sword | steel
scalpel | steel
plank | wood
barrel | wood
violin | wood
brick | clay
saddle | leather
belt | leather
wallet | leather
kimono | silk
towel | cotton
bandage | cotton
igloo | snow
castle | stone
raincoat | plastic
comb | plastic
basket | straw
teacup | porcelain
""")

SOURCES = table("""
product | source
cheese | milk
butter | milk
yogurt | milk
wine | grapes
raisins | grapes
prunes | plums
ketchup | tomatoes
chips | potatoes
chocolate | cocoa
cider | apples
tofu | soybeans
beer | barley
popcorn | maize
toast | bread
flour | wheat
bread | flour
paper | wood
glass | sand
plastic | oil
marzipan | almonds
peanut butter | peanuts
porridge | oats
hummus | chickpeas
sauerkraut | cabbage
pickles | cucumbers
mayonnaise | eggs
lemonade | lemons
olive oil | olives
steel | iron
bronze | copper
charcoal | wood
caramel | sugar
""")

# The animal that gives it.
GIVERS = table("""
product | animal
milk | cow
honey | bee
eggs | hen
wool | sheep
silk | silkworm
beef | cow
pork | pig
ham | pig
bacon | pig
mutton | sheep
venison | deer
pearls | oyster
""")

KINDS = {
    "fruit": words("apple pear plum peach cherry banana orange lemon mango grape melon apricot"),
    "vegetable": words("carrot onion potato cabbage leek turnip radish beetroot"),
    "grain": words("rice wheat barley rye maize"),
    "tool": words("hammer saw drill spade axe rake chisel spanner"),
    "vehicle": words("car bus train lorry tram bicycle van taxi"),
    "flower": words("rose tulip daisy lily poppy orchid"),
    "tree": words("oak pine birch maple willow elm"),
    "instrument": words("piano banjo lute organ accordion mandolin"),
    "metal": words("iron gold copper silver tin zinc"),
    "game": words("chess tennis football hockey golf rugby"),
    "drink": words("tea coffee juice lemonade cocoa"),
    "spice": words("cinnamon saffron cumin ginger"),
    "piece of furniture": words("table chair sofa bed wardrobe desk"),
    "piece of clothing": words("shirt coat sock glove scarf skirt"),
}
