"""Jobs, and those who wrote, painted and composed what everybody knows."""

from data.world.table import table

# The workplace with the word before it that English wants.
JOBS = table("""
job | does | do | tool | workplace
baker | bakes bread | bake bread | oven | in a bakery
teacher | teaches children | teach children | blackboard | at a school
farmer | grows crops | grow crops | tractor | on a farm
doctor | treats patients | treat patients | stethoscope | in a hospital
carpenter | makes furniture | make furniture | saw | in a workshop
blacksmith | shapes iron | shape iron | anvil | in a forge
fisherman | catches fish | catch fish | net | on a boat
tailor | sews clothes | sew clothes | needle | -
painter | paints pictures | paint pictures | brush | in a studio
photographer | takes photographs | take photographs | camera | -
gardener | looks after plants | look after plants | rake | in a garden
cook | prepares meals | prepare meals | pan | in a kitchen
barber | cuts hair | cut hair | razor | -
librarian | lends books | lend books | - | in a library
pilot | flies planes | fly planes | - | in a cockpit
judge | decides cases | decide cases | gavel | in a court
firefighter | puts out fires | put out fires | hose | -
dentist | looks after teeth | look after teeth | drill | -
vet | heals animals | heal animals | - | -
butcher | sells meat | sell meat | cleaver | -
astronomer | studies the stars | study the stars | telescope | in an observatory
biologist | studies living things | study living things | microscope | in a laboratory
sailor | sails the seas | sail the seas | - | on a ship
miner | digs for coal | dig for coal | pickaxe | in a mine
lumberjack | cuts down trees | cut down trees | axe | in a forest
waiter | serves food | serve food | tray | in a restaurant
cashier | takes the money | take the money | till | in a supermarket
actor | plays parts | play parts | - | in a theatre
clown | makes people laugh | make people laugh | - | in a circus
mechanic | repairs cars | repair cars | - | in a garage
plumber | repairs pipes | repair pipes | wrench | -
bricklayer | builds walls | build walls | trowel | -
shepherd | looks after sheep | look after sheep | crook | in a meadow
postman | delivers letters | deliver letters | - | at a post office
writer | writes books | write books | pen | -
sculptor | carves statues | carve statues | - | -
conductor | leads an orchestra | lead an orchestra | baton | in a concert hall
lifeguard | rescues swimmers | rescue swimmers | whistle | at a beach
astronaut | travels in space | travel in space | - | in a spaceship
pharmacist | sells medicine | sell medicine | - | in a pharmacy
florist | sells flowers | sell flowers | - | -
weaver | weaves cloth | weave cloth | loom | in a mill
surgeon | operates on people | operate on people | scalpel | -
""")

# How it was made: written, painted or composed.
WORKS = table("""
work | made | maker
Romeo and Juliet | written | William Shakespeare
Hamlet | written | William Shakespeare
Don Quixote | written | Miguel de Cervantes
War and Peace | written | Leo Tolstoy
Crime and Punishment | written | Fyodor Dostoevsky
Oliver Twist | written | Charles Dickens
Pride and Prejudice | written | Jane Austen
Robinson Crusoe | written | Daniel Defoe
Gulliver's Travels | written | Jonathan Swift
Treasure Island | written | Robert Louis Stevenson
Alice in Wonderland | written | Lewis Carroll
Pinocchio | written | Carlo Collodi
Peter Pan | written | James Barrie
The Jungle Book | written | Rudyard Kipling
Frankenstein | written | Mary Shelley
Dracula | written | Bram Stoker
Moby Dick | written | Herman Melville
Tom Sawyer | written | Mark Twain
Les Miserables | written | Victor Hugo
The Odyssey | written | Homer
Heidi | written | Johanna Spyri
The Time Machine | written | Herbert George Wells
Little Women | written | Louisa May Alcott
The Ugly Duckling | written | Hans Christian Andersen
Pippi Longstocking | written | Astrid Lindgren
the Mona Lisa | painted | Leonardo da Vinci
The Starry Night | painted | Vincent van Gogh
Guernica | painted | Pablo Picasso
The Scream | painted | Edvard Munch
The Night Watch | painted | Rembrandt
The Birth of Venus | painted | Sandro Botticelli
The Four Seasons | composed | Antonio Vivaldi
The Magic Flute | composed | Wolfgang Amadeus Mozart
Swan Lake | composed | Pyotr Tchaikovsky
the Moonlight Sonata | composed | Ludwig van Beethoven
Carmen | composed | Georges Bizet
Aida | composed | Giuseppe Verdi
The Planets | composed | Gustav Holst
""")

# Vets use it, too: nobody is asked whose tool it is.
SHARED_TOOLS = ("stethoscope",)

HOMELANDS = table("""
person | country
William Shakespeare | England
Miguel de Cervantes | Spain
Leo Tolstoy | Russia
Charles Dickens | England
Carlo Collodi | Italy
Herman Melville | the United States
Victor Hugo | France
Johanna Spyri | Switzerland
Hans Christian Andersen | Denmark
Astrid Lindgren | Sweden
Leonardo da Vinci | Italy
Edvard Munch | Norway
Pablo Picasso | Spain
Antonio Vivaldi | Italy
Wolfgang Amadeus Mozart | Austria
Ludwig van Beethoven | Germany
Georges Bizet | France
Mark Twain | the United States
Jane Austen | England
""")
