"""What is counted or in order: the calendar, numbers, units, parts, elements, planets."""

from data.world.table import table, words

MONTHS = words(
    "January February March April May June July August September October November December"
)
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # in an ordinary year
SEASONS = ("winter", "spring", "summer", "autumn")  # in Europe, from December on
ORDINALS = words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_SMALL = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")


def number_word(n: int) -> str:
    """0 to 100 in words: 42 is forty-two."""
    if n < 20:
        return _SMALL[n]
    if n == 100:
        return "one hundred"
    ten, one = divmod(n, 10)
    return _TENS[ten - 2] + (f"-{_SMALL[one]}" if one else "")


def roman(n: int) -> str:
    """The Roman numeral: 14 is XIV."""
    steps = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"))
    steps += ((5, "V"), (4, "IV"), (1, "I"))
    text = ""
    for value, letters in steps:
        while n >= value:
            text, n = text + letters, n - value
    return text


ROMANS = (*range(1, 21), 30, 40, 50, 60, 90, 100)

UNITS = table("""
whole | part | parts | number
minute | second | seconds | 60
hour | minute | minutes | 60
day | hour | hours | 24
week | day | days | 7
year | month | months | 12
year | week | weeks | 52
leap year | day | days | 366
decade | year | years | 10
century | year | years | 100
century | decade | decades | 10
metre | centimetre | centimetres | 100
kilometre | metre | metres | 1000
centimetre | millimetre | millimetres | 10
kilogram | gram | grams | 1000
tonne | kilogram | kilograms | 1000
litre | millilitre | millilitres | 1000
foot | inch | inches | 12
yard | foot | feet | 3
pound | ounce | ounces | 16
gallon | pint | pints | 8
dollar | cent | cents | 100
fortnight | day | days | 14
season | month | months | 3
byte | bit | bits | 8
""")

COUNTS = table("""
thing | parts | number
triangle | sides | 3
square | sides | 4
pentagon | sides | 5
hexagon | sides | 6
octagon | sides | 8
decagon | sides | 10
cube | faces | 6
bicycle | wheels | 2
tricycle | wheels | 3
car | wheels | 4
unicycle | wheels | 1
violin | strings | 4
guitar | strings | 6
hand | fingers | 5
starfish | arms | 5
octopus | arms | 8
rainbow | colours | 7
piano | keys | 88
chessboard | squares | 64
football team | players | 11
basketball team | players | 5
volleyball team | players | 6
baseball team | players | 9
pack of cards | cards | 52
heart | chambers | 4
""")

MEASURES = table("""
quantity | instrument
temperature | thermometer
time | clock
weight | scale
length | ruler
direction | compass
speed | speedometer
air pressure | barometer
earthquakes | seismograph
wind | anemometer
angles | protractor
""")

ELEMENTS = table("""
element | symbol | state
hydrogen | H | gas
helium | He | gas
lithium | Li | solid
boron | B | solid
carbon | C | solid
nitrogen | N | gas
oxygen | O | gas
fluorine | F | gas
neon | Ne | gas
sodium | Na | solid
magnesium | Mg | solid
aluminium | Al | solid
silicon | Si | solid
phosphorus | P | solid
sulfur | S | solid
chlorine | Cl | gas
argon | Ar | gas
potassium | K | solid
calcium | Ca | solid
titanium | Ti | solid
chromium | Cr | solid
manganese | Mn | solid
iron | Fe | solid
cobalt | Co | solid
nickel | Ni | solid
copper | Cu | solid
zinc | Zn | solid
arsenic | As | solid
bromine | Br | liquid
krypton | Kr | gas
silver | Ag | solid
tin | Sn | solid
iodine | I | solid
xenon | Xe | gas
barium | Ba | solid
tungsten | W | solid
platinum | Pt | solid
gold | Au | solid
mercury | Hg | liquid
lead | Pb | solid
radon | Rn | gas
uranium | U | solid
""")

PLANETS = words("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")

FAMILIES = table("""
instrument | family
violin | string
cello | string
harp | string
guitar | string
flute | woodwind
clarinet | woodwind
oboe | woodwind
bassoon | woodwind
trumpet | brass
trombone | brass
tuba | brass
bugle | brass
drum | percussion
xylophone | percussion
tambourine | percussion
gong | percussion
""")

# What people do with what part of the body.
SENSES = table("""
do | part
see | eyes
hear | ears
smell | nose
taste | tongue
think | brain
breathe | lungs
chew | teeth
grasp | hands
walk | legs
""")
