"""How one speaks of numbers, units, elements, planets and the senses."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "number_word",
        "numbers in words",
        "number",
        "the word for {s}",
        says="""
        the word for {s} is {a}
        the number {s} in words is {a}
        we write {s} in words as {a}
        {a} is the word for {s}
        in words, {s} is {a}
        {a} in figures is {s}
        """,
        asks="""
        what is the word for {s}?
        how do you write {s} in words?
        what is the number {s} in words?
        what does {s} look like in words?
        """,
        back_asks="""
        how do you write {a} in figures?
        which number is {a}?
        what is {a} in figures?
        """,
        back_key="the number {a} in figures",
    ),
    relation(
        "roman",
        "Roman numerals",
        "number",
        "the Roman numeral for {s}",
        says="""
        the Roman numeral for {s} is {a}
        in Roman numerals, {s} is {a}
        the Romans wrote {s} as {a}
        {a} is the Roman numeral for {s}
        on an old clock, {a} means {s}
        the Roman numeral {a} means {s}
        """,
        asks="""
        what is the Roman numeral for {s}?
        how did the Romans write {s}?
        what is {s} in Roman numerals?
        which Roman numeral means {s}?
        """,
        back_asks="""
        which number is the Roman numeral {a}?
        what does the Roman numeral {a} mean?
        """,
        back_key="the number of the Roman numeral {a}",
    ),
    relation(
        "unit",
        "units",
        "unit",
        "the number of {parts} in {one}",
        says="""
        {one} has {a} {parts}
        there are {a} {parts} in {one}
        {a} {parts} make {one}
        the number of {parts} in {one} is {a}
        {one} is the same as {a} {parts}
        """,
        asks="""
        how many {parts} are there in {one}?
        how many {parts} does {one} have?
        how many {parts} make {one}?
        what is {one} in {parts}?
        what is the number of {parts} in {one}?
        """,
    ),
    relation(
        "measure",
        "measuring",
        "quantity",
        "the instrument for measuring {s}",
        says="""
        the instrument for measuring {s} is {an}
        you measure {s} with {an}
        {an} measures {s}
        people use {an} to measure {s}
        to measure {s}, you need {an}
        {an} is the instrument for measuring {s}
        """,
        asks="""
        with which instrument do you measure {s}?
        what do you measure {s} with?
        which instrument measures {s}?
        what do you need to measure {s}?
        """,
        an="{art} {a}",
        back_asks="""
        what does {an} measure?
        what do you measure with {an}?
        """,
        back_key="the thing that {an} measures",
    ),
    relation(
        "symbol",
        "chemical symbols",
        "element",
        "the chemical symbol of {s}",
        says="""
        the chemical symbol of {s} is {a}
        the symbol for {s} is {a}
        {a} is the symbol of {s}
        {s} has the symbol {a}
        chemists write {a} for {s}
        in chemistry, {a} stands for {s}
        """,
        asks="""
        what is the chemical symbol of {s}?
        what is the symbol for {s}?
        which symbol does {s} have?
        how do chemists write {s}?
        what stands for {s} in chemistry?
        """,
        its="""
        its symbol is {a}
        its chemical symbol is {a}
        chemists write it as {a}
        """,
        back_asks="""
        which element has the symbol {a}?
        what does {a} stand for in chemistry?
        of which element is {a} the symbol?
        """,
        back_key="the element with the symbol {a}",
    ),
    relation(
        "state",
        "states of matter",
        "element",
        "the state of {s} in a warm room",
        says="""
        in a warm room, {s} is {an}
        {s} is {an} in a warm room
        in a room, {s} is {an}
        at twenty degrees, {s} is {an}
        the element {s} is {an} when nobody heats or cools it
        """,
        asks="""
        what is {s} in a warm room: a solid, a liquid or a gas?
        is {s} a solid, a liquid or a gas in a warm room?
        in which state is {s} in a warm room?
        at twenty degrees, what is {s}: a solid, a liquid or a gas?
        """,
        its="""
        in a warm room it is {an}
        at twenty degrees it is {an}
        """,
        an="{art} {a}",
        equals=False,
    ),
    relation(
        "planet_place",
        "planets",
        "planet",
        "the place of {s} among the planets",
        says="""
        {s} is the {a} planet from the Sun
        the {a} planet from the Sun is {s}
        counted from the Sun, {s} is the {a} planet
        among the planets, {s} is the {a} from the Sun
        """,
        asks="""
        counted from the Sun, which planet is {s}?
        in the order of the planets, which place does {s} have?
        what place does {s} have among the planets?
        what is the place of {s} among the planets?
        """,
        its="""
        it is the {a} planet from the Sun
        """,
        an="the {a}",
        back_asks="""
        which planet is the {a} from the Sun?
        what is the {a} planet from the Sun?
        what is the name of the {a} planet from the Sun?
        """,
        back_key="the {a} planet from the Sun",
        equals=False,
    ),
    relation(
        "sense",
        "the body",
        "sense",
        "the part of the body with which we {s}",
        says="""
        we {s} with our {a}
        people {s} with their {a}
        you {s} with your {a}
        you need your {a} to {s}
        the part of the body with which we {s} is the {a}
        without our {a} we could not {s}
        """,
        asks="""
        with which part of the body do we {s}?
        what do we {s} with?
        which part of the body do you need to {s}?
        what do people {s} with?
        """,
        an="our {a}",
        bare="with our {a}",
        equals=False,
    ),
)
