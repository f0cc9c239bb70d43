"""How things are done, step by step, and why things are as they are: written out by hand."""


def _pages(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(what, sentences) of each page."""
    pages = []
    for block in text.strip().split("\n\n"):
        what, *lines = block.strip().splitlines()
        pages.append((what.strip(), tuple(line.strip() for line in lines)))
    return tuple(pages)


# To be read after "how to".
HOW_TO = _pages("""
make tea
First, boil some water.
Then put a bag of tea into a cup and pour the hot water over it.
Wait for three minutes and take the bag out.

brush your teeth
First, put a little toothpaste on the brush.
Then brush all teeth, inside and outside, for two minutes.
At the end, wash your mouth with water.

plant a seed
First, make a small hole in the earth.
Then put the seed into it and cover it with earth.
Give it water every day and wait for the first leaf.

wash your hands
First, make your hands wet.
Then rub them with soap, also between the fingers.
At the end, wash the soap off and dry your hands with a towel.

cross a street
First, stop and look left and right.
Wait until no car is coming.
Then walk straight across, and do not run.

make a sandwich
First, cut two slices of bread.
Then put butter and cheese on one of them.
Lay the other slice on top, and eat it.

boil an egg
First, put the egg into a pot of water.
Let the water boil for about eight minutes.
Then cool the egg in cold water and peel it.

write a letter
First, greet the person to whom you write.
Then tell your news and ask some questions.
At the end, say goodbye and sign it with your name.

build a snowman
First, roll three balls of snow, a big one, a smaller one and a small one.
Put them on top of each other.
Then give it a nose, two eyes and a hat.

borrow a book
First, go to the library and look for a book that you like.
Then show it to the librarian.
Read it with care, and bring it back in time.

paint a fence
First, clean the fence and let it dry.
Then dip the brush into the paint and paint one plank after the other.
Wait until it is dry before you touch it.

make a fire in a stove
First, put paper and thin sticks into the stove.
Then light the paper with a match.
When the sticks burn, lay thicker wood on top.

pack a suitcase
First, make a list of what you need.
Then put heavy things at the bottom and light things on top.
Check the list again and close the suitcase.

learn a poem
First, read the poem aloud.
Then learn one line after the other, and say them without the book.
At the end, say the whole poem to a friend.

set the table
First, put a plate in front of each chair.
Lay the fork on the left and the knife on the right.
Then put a glass behind the knife.

clean a window
First, fill a bucket with warm water and a little soap.
Then wash the glass with a cloth from top to bottom.
At the end, dry it so that no spots are left.

find a word in a dictionary
First, look at the first letter of the word.
Then open the dictionary at the pages with this letter.
Follow the order of the letters until you find the word.

take care of a dog
Give it food and fresh water every day.
Go for a walk with it in the morning and in the evening.
Brush its hair, and play with it often.

make a kite
First, make a cross of two light sticks.
Then glue strong paper on it and tie a long string to the middle.
Run with it on a windy day until it flies.

make lemonade
First, press the juice out of two lemons.
Then add cold water and some sugar.
Stir it well and drink it fresh.
""")

# To be read after "why".
WHY = _pages("""
we wear coats in winter
In winter the air outside is cold, and our body loses heat.
A coat keeps the warm air near the body.
So we do not get cold so quickly.

plants need light
Plants make their food from water, air and light.
Without light they cannot make enough of it.
That is why a plant in a dark room becomes weak.

we sleep
The body and the brain need rest.
While we sleep, the body repairs itself and the brain puts the day in order.
After a good night we can think and work again.

ice floats on water
When water freezes, it takes up more room.
So ice is lighter than the same amount of water.
That is why it floats.

it gets dark at night
The Earth turns round once a day.
At night our side of it looks away from the Sun.
So the light of the Sun does not reach us.

birds fly south in autumn
In winter there is little food in cold countries.
So many birds fly to warmer countries in autumn.
In spring they come back.

we wash our hands before we eat
On our hands there are small germs that we cannot see.
With the food they could get into our body and make us ill.
Soap and water take them away.

the moon shines
The moon has no light of its own.
The Sun shines on it, and it throws some of the light to us.
That is why we see it at night.

trees lose their leaves
In winter it is hard for a tree to get water from the cold earth.
Leaves would lose too much of it.
So many trees let them fall in autumn.

we need water
A large part of our body is water.
We lose some of it all day, when we breathe and sweat.
So we have to drink to make up for it.

bread rises in the oven
In the dough there is yeast, which makes small bubbles of gas.
In the warm oven the bubbles grow.
They lift the dough, and the bread becomes soft.

we see lightning before we hear thunder
Light is much faster than sound.
Both begin at the same moment in the cloud.
The light is here at once, and the sound comes later.

boats float
A boat pushes water away.
The water pushes back and carries it.
As long as the boat is not too heavy, it does not sink.

metal feels cold
Metal leads heat away quickly.
When we touch it, it takes heat from our hand.
That is why it feels colder than wood.

we have two eyes
Each eye sees a thing from another side.
The brain puts both pictures together.
So we know how far away a thing is.

cats hunt at night
The eyes of a cat see well when there is little light.
At night many mice come out of their holes.
So the night is a good time to hunt.

salt is put on icy roads
Salt water freezes only when it is very cold.
The salt makes the ice melt.
Then cars do not slip so easily.

we breathe faster when we run
When we run, the muscles need more oxygen.
The blood brings it to them from the lungs.
So we breathe faster to take in more air.

bees visit flowers
In flowers there is sweet nectar, which is the food of bees.
While they look for it, they carry pollen from flower to flower.
In this way they help the plants to make seeds.

we read books
Books tell us what other people know and think.
They take us to places where we have never been.
And a good story is a pleasure.
""")
