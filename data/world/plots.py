"""Small stories: what somebody did, and why. Each sentence has several wordings, parted by `/`.

{p} {he} {him} {his} are the hero, {q} {qhe} {qhim} a friend. The first line says of whom one is to
tell: "a girl who lost her key". A capital letter, {He}, begins a sentence. Every wording of a
sentence can follow every wording of the one before.
"""


def _plots(text: str) -> tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]:
    """(of whom, sentences), each sentence a tuple of its wordings."""
    plots = []
    for block in text.strip().split("\n\n"):
        about, *lines = block.strip().splitlines()
        sentences = tuple(tuple(part.strip() for part in line.split(" / ")) for line in lines)
        plots.append((about.strip(), sentences))
    return tuple(plots)


PLOTS = _plots("""
who lost {his} key
{p} came home and could not find {his} key. / One day {p} lost {his} key. / {p} had lost {his} key.
{He} looked in {his} bag and under the mat. / {He} looked everywhere, but it was not there.
{q} came by and helped {him} to look for it. / Then {q} came and helped {him}.
At last {q} found the key in the grass. / It was {q} who saw the key under a leaf.
{p} was so happy that {he} gave {q} a big apple. / {p} thanked {q}, and they went in together.

who planted a seed
{p} planted a small seed in the garden. / One morning {p} put a seed into the earth.
{He} gave it water every day because it could not grow without it. / {He} watered it every day.
For a long time nothing happened, and {q} laughed. / {q} said that nothing would come of it.
Then a green leaf came out of the earth. / But one day there was a little green leaf.
In summer it was a tall sunflower, and everybody came to see it. / It was soon a tall flower.

who was afraid of the dark
{p} was afraid of the dark. / Every night {p} was afraid, because {his} room was so dark.
Then {he} heard a noise and hid under the blanket. / {He} heard something at the window.
{q} brought a lamp, and they looked together. / {p} called {q}, who came with a lamp.
It was only the cat that wanted to come in. / They saw that it was only a little cat.
From then on {p} was brave. / After that {p} was not afraid any more.

who found a lost dog
{p} found a little dog in the street. / On the way to school {p} met a small brown dog.
It was wet and hungry, so {he} took it home. / The dog was cold, and {he} gave it some food.
The next day {q} came and asked for a lost dog. / Then {he} heard that {q} had lost a dog.
{p} gave the dog back because it did not belong to {him}. / {p} brought the dog to {q}.
{q} was so glad that {p} may now visit the dog every day. / Now they all play together.

who wanted to fly
{p} wanted to fly like a bird. / {p} always looked at the birds and wanted to fly.
{He} made wings of paper and jumped from a chair. / {He} took two wings of paper and jumped.
{He} fell down, but the grass was soft. / Of course {he} fell, but {he} was not hurt.
{q} said, "Let us make a kite." / Then {q} had a better idea and brought a kite.
The kite flew high, and {p} felt as if {he} were flying, too. / So they let the kite fly for them.

who baked a cake for a friend
It was {q}'s birthday, and {p} wanted to bake a cake. / {p} baked a cake for {q}'s birthday.
{He} took flour, eggs, butter and milk. / {He} mixed everything in a big bowl.
But {he} took salt where sugar was needed. / But there was no sugar in the cake, only salt.
{q} ate a piece, laughed and drank a lot of water. / When {q} tasted it, {qhe} began to laugh.
Then they baked a new cake together, and it was good. / They made another one, and it was sweet.

who shared {his} bread
{p} had a piece of bread and sat down under a tree. / {p} went for a walk with some bread.
An old man came by who had not eaten all day. / There {he} met an old woman who was hungry.
{p} gave away half of the bread, because there was enough for two. / {p} shared it gladly.
The stranger showed {him} the way to a hidden lake. / As thanks {he} got a small silver coin.
In the evening {he} told {q} about it. / {p} told {q} of it, and both were glad.

who built a boat
{p} lived by the river and wanted to see the sea. / {p} dreamed of the sea.
So {he} built a boat of wood. / {He} found some planks and made a boat.
The first boat had a hole, and water came in. / But the boat had a hole and went down.
{q} knew how to mend it and brought a hammer. / {q} helped {him}, and they began again.
In the end the two friends sailed down the river to the sea. / Now it floated, and off they went.

who told a lie
{p} broke a cup and told a lie. / {p} broke a glass and ran away.
{He} said that the cat had done it. / When somebody asked, {he} said that it was the wind.
But {he} could not sleep, because {he} felt bad. / At night {he} lay awake and was not happy.
In the morning {he} told {q} the truth. / The next day {he} went and said what had happened.
Everybody was kind to {him}, and {p} felt light again. / Nobody was angry, and {p} learned from it.

who helped an old woman
An old woman had a heavy basket. / {p} saw an old woman with a heavy basket.
{p} carried it for her, up to the house on the hill. / {p} took it and walked beside her.
The woman told {him} about the time when she was young. / On the way she told {him} stories.
She gave {him} a red apple because {he} had been so kind. / At the door she gave {him} a cake.
{p} shared it with {q} and told {q} the stories. / {p} ran to {q} to tell all that {he} had heard.

who could not sleep
{p} lay in bed and could not sleep. / It was late, but {p} could not sleep.
The moon was bright, and an owl called in the tree. / {He} counted sheep, but it did not help.
So {he} thought of the summer and of {q}. / Then {he} thought of a day at the lake with {q}.
{He} saw the sun, the boat and the warm water. / {He} heard the water and felt the sun.
Soon {his} eyes closed, and {he} slept until morning. / And before long {he} was asleep.

who ran in a race
There was a race at school, and {p} was slow. / {p} wanted to win the race at school.
{He} ran every morning before breakfast. / So {he} practised every day, even in the rain.
On the day of the race, {q} fell and hurt a knee. / In the race {he} saw {q} fall down.
{p} stopped and helped {q}, because a friend is more than a prize. / {p} turned back to help.
They came in last, but everybody clapped. / Others won, but both got flowers from the teacher.

who got a strange letter
One day {p} got a letter without a name. / A letter came for {p}, but nobody had signed it.
It said: "Come to the old bridge at noon." / In it there was only a map of the park.
{p} was curious and went there. / {p} was a little afraid, but {he} went.
{q} and the others were waiting with balloons. / Behind a tree stood {q} and all the friends.
It was a surprise for {p}, because it was {his} birthday. / "Happy birthday!" they all shouted.

who made friends with a cat
A grey cat came to {p}'s window every day. / {p} saw a thin cat in the yard.
It was shy and ran away when {he} moved. / At first it did not let {him} come near.
{He} put a little milk on the step each evening. / {He} sat still and waited, day after day.
After a week it came close and sat on {his} shoes. / Then, one evening, it came and purred.
{p} told {q}: "You need time to make a friend." / {q} asked how {he} did it, and {p} smiled.

who wanted to see snow
{p} had never seen snow. / In {p}'s town it was always warm, and there was no snow.
{q} lived in the mountains and wrote about the white winter. / {q} sent {him} a picture of it.
So {p} took a train, and then another one. / In January {he} took the train to visit {q}.
When {he} woke up there, everything was white. / The next morning the whole world was white.
They built a big snowman with a carrot nose. / They played in the snow until their hands were cold.

who sold lemonade
It was a hot day, and {p} wanted to buy a ball. / {p} needed money for a ball.
{He} made lemonade and sold it in front of the house. / So {he} sold lemonade in the street.
At first nobody came. / For an hour no one wanted any.
Then {q} made a big sign, and many people stopped. / Then {q} sang a song, and people came.
In the evening {p} bought the ball, and they played together. / They had enough for two balls.
""")
