"""Words about words: opposites, synonyms, plurals, forms of verbs, comparison, short forms."""

from data.world.table import table, words

# Both words of a pair have this one opposite.
OPPOSITES = table("""
one | other
hot | cold
big | small
up | down
happy | sad
wet | dry
full | empty
rich | poor
strong | weak
early | late
loud | quiet
clean | dirty
high | low
near | far
thick | thin
wide | narrow
deep | shallow
true | false
good | bad
love | hate
win | lose
buy | sell
push | pull
begin | end
remember | forget
laugh | cry
arrive | leave
accept | refuse
friend | enemy
peace | war
always | never
inside | outside
above | below
cheap | expensive
polite | rude
smooth | rough
safe | dangerous
beautiful | ugly
alive | dead
asleep | awake
ancient | modern
summer | winter
top | bottom
odd | even
more | less
guilty | innocent
public | private
increase | decrease
add | subtract
multiply | divide
easy | difficult
sharp | blunt
tight | loose
import | export
north | south
east | west
entrance | exit
question | answer
lazy | hard-working
brave | cowardly
straight | crooked
""")

SYNONYMS = table("""
word | synonym
glad | happy
large | big
little | small
quick | fast
start | begin
finish | end
shut | close
ill | sick
clever | smart
afraid | scared
silent | quiet
speak | talk
shout | yell
gift | present
road | street
stone | rock
woods | forest
error | mistake
reply | answer
choose | pick
mend | repair
assist | help
purchase | buy
odd | strange
tidy | neat
leap | jump
weep | cry
tale | story
wealthy | rich
correct | right
enormous | huge
brave | courageous
simple | easy
famous | well-known
couch | sofa
cap | hat
photo | picture
doctor | physician
""")

# What the British call one thing and Americans another.
AMERICAN = table("""
british | american
lift | elevator
flat | apartment
lorry | truck
biscuit | cookie
autumn | fall
holiday | vacation
rubbish | garbage
petrol | gasoline
pavement | sidewalk
film | movie
tap | faucet
torch | flashlight
nappy | diaper
football | soccer
aubergine | eggplant
courgette | zucchini
cooker | stove
postman | mailman
underground | subway
motorway | highway
queue | line
mum | mom
pram | stroller
trousers | pants
sweets | candy
chemist | drugstore
""")

CONTRACTIONS = table("""
long | short
do not | don't
does not | doesn't
did not | didn't
is not | isn't
are not | aren't
was not | wasn't
were not | weren't
cannot | can't
will not | won't
would not | wouldn't
could not | couldn't
should not | shouldn't
have not | haven't
has not | hasn't
I am | I'm
you are | you're
we are | we're
they are | they're
let us | let's
""")

# Nouns whose plural is asked for.
PLURALS = words("""
mouse child man woman foot tooth goose ox person sheep deer leaf knife wolf half shelf wife life
calf loaf thief scarf potato tomato hero mango city baby berry lady country fly story box bus dish
church glass fox witch brush dress match party family puppy penny lorry watch branch
book dog house table tree car bird hand river song letter spoon king apple garden toy day key monkey
""")

# base | past | past participle
VERBS = table("""
base | past | participle
go | went | gone
eat | ate | eaten
see | saw | seen
take | took | taken
give | gave | given
write | wrote | written
drink | drank | drunk
sing | sang | sung
swim | swam | swum
run | ran | run
come | came | come
fly | flew | flown
know | knew | known
grow | grew | grown
throw | threw | thrown
break | broke | broken
speak | spoke | spoken
choose | chose | chosen
drive | drove | driven
ride | rode | ridden
fall | fell | fallen
forget | forgot | forgotten
hide | hid | hidden
buy | bought | bought
bring | brought | brought
think | thought | thought
teach | taught | taught
catch | caught | caught
find | found | found
tell | told | told
sell | sold | sold
keep | kept | kept
sleep | slept | slept
leave | left | left
lose | lost | lost
make | made | made
build | built | built
send | sent | sent
hear | heard | heard
hold | held | held
stand | stood | stood
win | won | won
meet | met | met
pay | paid | paid
begin | began | begun
wear | wore | worn
play | played | played
help | helped | helped
open | opened | opened
paint | painted | painted
clean | cleaned | cleaned
carry | carried | carried
study | studied | studied
try | tried | tried
bake | baked | baked
close | closed | closed
stop | stopped | stopped
plan | planned | planned
walk | walked | walked
wash | washed | washed
watch | watched | watched
""")

# adjective | more of it | most of it
ADJECTIVES = table("""
adjective | comparative | superlative
good | better | best
bad | worse | worst
far | farther | farthest
big | bigger | biggest
hot | hotter | hottest
thin | thinner | thinnest
wet | wetter | wettest
sad | sadder | saddest
happy | happier | happiest
easy | easier | easiest
heavy | heavier | heaviest
dirty | dirtier | dirtiest
funny | funnier | funniest
busy | busier | busiest
lazy | lazier | laziest
large | larger | largest
nice | nicer | nicest
wide | wider | widest
brave | braver | bravest
late | later | latest
small | smaller | smallest
tall | taller | tallest
short | shorter | shortest
long | longer | longest
fast | faster | fastest
slow | slower | slowest
old | older | oldest
young | younger | youngest
strong | stronger | strongest
weak | weaker | weakest
cold | colder | coldest
warm | warmer | warmest
rich | richer | richest
high | higher | highest
deep | deeper | deepest
clean | cleaner | cleanest
""")

# Words that are spelt out and counted.
SPELLED = words("""
cat dog cow hen pig bee ant owl fox bear lion wolf frog duck goat deer horse sheep mouse
apple pear plum lemon grape banana carrot onion bread cheese butter sugar milk salt tea house door
window table chair lamp garden school river lake moon star sun cloud rain snow tree rose stone book
pencil ship boat train hammer basket bottle king queen baker teacher summer winter
""")
