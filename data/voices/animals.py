"""How one speaks of animals."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "class",
        "kinds of animals",
        "animal",
        "the class of {one}",
        says="""
        {one} is {an}
        {many} are {as}
        {many} belong to the {as}
        {one} is one of the {as}
        scientists call {one} {an}
        the {s} is {an}
        """,
        asks="""
        what kind of animal is {one}?
        what class of animal is {one}?
        which kind of animal is {one}?
        what kind of animal is the {s}?
        """,
        its="""
        it is {an}
        it belongs to the {as}
        """,
        an="{art} {a}",
        equals=False,
    ),
    relation(
        "young",
        "young animals",
        "animal",
        "the young of {one}",
        says="""
        the young of {one} is called {an}
        a young {s} is called {an}
        a baby {s} is called {an}
        {an} is a young {s}
        the baby of {one} is {an}
        the young of {many} are called {as}
        when {one} has a baby, it is {an}
        one day {an} will be {one}
        """,
        asks="""
        what is the young of {one} called?
        what do you call a baby {s}?
        what is a young {s} called?
        what is the name for the baby of {one}?
        """,
        its="""
        its young is called {an}
        its baby is called {an}
        its young are called {as}
        """,
        an="{art} {a}",
        back_asks="""
        which animal has {an} as its young?
        what will {an} be when it is big?
        of which animal is {an} the young?
        """,
        back_key="the animal whose young is {an}",
    ),
    relation(
        "sound",
        "animal sounds",
        "animal",
        "the sound of {one}",
        says="""
        the sound of {one} is called {an}
        {one} can {a}
        {many} {a}
        you can hear {one} {a}
        {one} likes to {a}
        on a quiet day you may hear {many} {a}
        every {s} can {a}
        """,
        asks="""
        what sound does {one} make?
        what is the sound of {one} called?
        what is the sound of {one}?
        which sound do {many} make?
        what can you hear {one} do?
        """,
        its="""
        it can {a}
        its sound is called {an}
        you can hear it {a}
        """,
        an="{art} {a}",
        back_asks="""
        which animal can {a}?
        what animal do you hear when you hear {an}?
        """,
        back_key="the animal whose sound is {an}",
    ),
    relation(
        "home",
        "animal homes",
        "animal",
        "the home of {one}",
        says="""
        the home of {one} is {an}
        {one} lives in {an}
        {many} live in {an}
        {an} is the home of {one}
        if you look for {one}, you should look in {an}
        you can find {one} in {an}
        {one} sleeps in {an}
        in {an} you may find {one}
        """,
        asks="""
        where does {one} live?
        where do {many} live?
        what is the home of {one}?
        in what place does {one} live?
        where can you find {one}?
        """,
        its="""
        it lives in {an}
        its home is {an}
        you can find it in {an}
        """,
        an="{art}{a}",
        bare="in {an}",
    ),
    relation(
        "food",
        "animal food",
        "animal",
        "the food of {one}",
        says="""
        the food of {one} is {a}
        {one} eats {a}
        {many} eat {a}
        {many} like {a}
        {one} lives on {a}
        {one} needs {a} to live
        when {one} is hungry, it looks for {a}
        """,
        asks="""
        what does {one} eat?
        what do {many} eat?
        what is the food of {one}?
        what does {one} live on?
        what does {one} look for when it is hungry?
        """,
        its="""
        it eats {a}
        its food is {a}
        it lives on {a}
        """,
        equals=False,
    ),
    relation(
        "group",
        "groups of animals",
        "animal",
        "the word for a group of {many}",
        says="""
        a group of {many} is called {an}
        {many} live together in {an}
        many {many} together are {an}
        {an} is a group of {many}
        we call a group of {many} {an}
        you say {an} of {many}
        """,
        asks="""
        what is a group of {many} called?
        what do you call a group of {many}?
        what do you call many {many} together?
        in what kind of group do {many} live?
        """,
        its="""
        a group of them is called {an}
        """,
        an="{art} {a}",
    ),
    relation(
        "legs",
        "counting legs and parts",
        "animal",
        "the number of legs of {one}",
        says="""
        {one} has {a} legs
        {many} have {a} legs
        the number of legs of {one} is {a}
        {one} walks on {a} legs
        if you count the legs of {one}, you get {a}
        """,
        asks="""
        how many legs does {one} have?
        how many legs do {many} have?
        what is the number of legs of {one}?
        on how many legs does {one} walk?
        how many legs can you count on {one}?
        """,
        its="""
        it has {a} legs
        it walks on {a} legs
        """,
    ),
)
