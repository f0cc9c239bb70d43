"""How one speaks of words."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "opposite",
        "opposites",
        "word",
        "the opposite of {s}",
        says="""
        the opposite of {s} is {a}
        {a} is the opposite of {s}
        the words {s} and {a} are opposites
        {s} means the opposite of {a}
        {s} is one thing, and {a} is the opposite
        the word {s} has {a} as its opposite
        """,
        asks="""
        what is the opposite of {s}?
        which word means the opposite of {s}?
        what is the opposite of the word {s}?
        which word is the opposite of {s}?
        """,
        its="""
        its opposite is {a}
        the opposite is {a}
        """,
    ),
    relation(
        "synonym",
        "words with the same meaning",
        "word",
        "another word for {s} that begins with {i}",
        says="""
        another word for {s} that begins with {i} is {a}
        another word for {s} is {a}
        {s} means the same as {a}
        {s} and {a} mean the same
        you can say {a} for {s}
        for {s}, some people say {a}
        the word {s} means the same as the word {a}
        """,
        asks="""
        what is another word for {s} that begins with {i}?
        which word that begins with {i} means the same as {s}?
        what word with {i} can you use for {s}?
        which word with {i} at the beginning means {s}?
        """,
        its="""
        another word for it is {a}
        it means the same as {a}
        """,
    ),
    relation(
        "american",
        "British and American words",
        "word",
        "the American word for {s}",
        says="""
        the American word for {s} is {a}
        the British say {s}, and Americans say {a}
        Americans say {a} for {s}
        {a} is what Americans call {s}
        the British word {s} is {a} in America
        what is {s} in Britain is {a} in America
        """,
        asks="""
        what is the American word for {s}?
        what do Americans say for {s}?
        what is {s} in American English?
        which word do Americans use for {s}?
        """,
        its="""
        in America the word is {a}
        Americans say {a}
        """,
        back_asks="""
        what is the British word for {a}?
        what do the British say for {a}?
        what is {a} in British English?
        """,
        back_key="the British word for {a}",
        back="{s}",
    ),
    relation(
        "contraction",
        "short forms",
        "word",
        "the short form of {s}",
        says="""
        the short form of {s} is {a}
        {a} is the short form of {s}
        for {s} we often say {a}
        {a} is short for {s}
        when we speak fast, {s} becomes {a}
        """,
        asks="""
        what is the short form of {s}?
        what do we often say for {s}?
        how do you write {s} in the short way?
        what does {s} become when we speak fast?
        """,
        back_asks="""
        what is {a} short for?
        what is the long form of {a}?
        """,
        back_key="the long form of {a}",
        back="{s}",
    ),
    relation(
        "plural",
        "plurals",
        "word",
        "the plural of {s}",
        says="""
        the plural of {s} is {a}
        {a} is the plural of {s}
        you say one {s}, but two {a}
        we say one {s} and many {a}
        the word {s} has the plural {a}
        """,
        asks="""
        what is the plural of {s}?
        what is the plural of the word {s}?
        what do you say when there is more than one {s}?
        one {s}, but two what?
        """,
        its="""
        its plural is {a}
        the plural is {a}
        """,
    ),
    relation(
        "past",
        "past tense",
        "word",
        "the past tense of {s}",
        says="""
        the past tense of {s} is {a}
        {a} is the past tense of {s}
        today I {s}, and yesterday I {a}
        the past of {s} is {a}
        we {s} today, and we {a} yesterday
        the verb {s} has the past tense {a}
        """,
        asks="""
        what is the past tense of {s}?
        what is the past of {s}?
        what is the past tense of the verb {s}?
        today I {s}, but what did I do yesterday?
        """,
        its="""
        its past tense is {a}
        the past tense is {a}
        """,
    ),
    relation(
        "comparative",
        "comparing",
        "word",
        "the comparative of {s}",
        says="""
        the comparative of {s} is {a}
        {a} is the comparative of {s}
        one thing is {s}, and another is even {a}
        we say {s}, and then {a}
        the word {s} has the comparative {a}
        """,
        asks="""
        what is the comparative of {s}?
        which form of {s} compares two things?
        what is the comparative of the word {s}?
        if something is more than {s}, what is it?
        """,
        its="""
        its comparative is {a}
        the comparative is {a}
        """,
    ),
    relation(
        "superlative",
        "comparing",
        "word",
        "the superlative of {s}",
        says="""
        the superlative of {s} is {a}
        {a} is the superlative of {s}
        many are {s}, but only one is the {a}
        of all {s} things, one is the {a}
        the word {s} has the superlative {a}
        """,
        asks="""
        what is the superlative of {s}?
        what is the superlative of the word {s}?
        which form of {s} stands for one above all others?
        what do you call the most {s} of all?
        """,
        its="""
        its superlative is {a}
        the superlative is {a}
        """,
    ),
    relation(
        "spelling",
        "spelling",
        "word",
        "the spelling of {s}",
        says="""
        the spelling of {s} is {a}
        {s} is spelled {a}
        you spell {s} like this: {a}
        the word {s} is spelled {a}
        letter by letter, {s} is {a}
        """,
        asks="""
        how do you spell {s}?
        how is the word {s} spelled?
        what is the spelling of {s}?
        what is {s} letter by letter?
        """,
        its="""
        it is spelled {a}
        letter by letter, it is {a}
        """,
    ),
    relation(
        "letters",
        "counting letters",
        "word",
        "the number of letters in {s}",
        says="""
        the number of letters in {s} is {a}
        the word {s} has {a} letters
        {s} has {a} letters
        there are {a} letters in the word {s}
        if you count the letters of {s}, you get {a}
        """,
        asks="""
        how many letters does the word {s} have?
        how many letters are there in {s}?
        what is the number of letters in {s}?
        how many letters do you write when you write {s}?
        """,
        its="""
        it has {a} letters
        the number of its letters is {a}
        """,
    ),
)
