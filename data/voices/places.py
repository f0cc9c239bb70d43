"""How one speaks of countries, cities, sights and dishes."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "capital",
        "capitals",
        "country",
        "the capital of {s}",
        says="""
        the capital of {s} is {a}
        {a} is the capital of {s}
        {s} has {a} as its capital
        the capital city of {s} is {a}
        {a} is the capital city of {s}
        the city of {a} is the capital of {s}
        in {s}, the capital is {a}
        the capital of {s} is called {a}
        whoever travels to {s} should see its capital, {a}
        """,
        asks="""
        what is the capital of {s}?
        which city is the capital of {s}?
        what is the capital city of {s} called?
        what is the name of the capital of {s}?
        which city does {s} have as its capital?
        """,
        its="""
        its capital is {a}
        its capital city is {a}
        its capital is called {a}
        the name of its capital is {a}
        """,
        back_asks="""
        which country has {a} as its capital?
        {a} is the capital of which country?
        of which country is {a} the capital?
        """,
        back_key="the country whose capital is {a}",
    ),
    relation(
        "continent",
        "continents",
        "country",
        "the continent of {s}",
        says="""
        {s} is in {a}
        {s} lies in {a}
        {s} is a country in {a}
        the continent where {s} lies is {a}
        {s} is part of {a}
        you can find {s} in {a}
        {s} belongs to the continent of {a}
        on the map, {s} is in {a}
        """,
        asks="""
        on which continent is {s}?
        in which continent does {s} lie?
        what continent is {s} in?
        which continent does {s} belong to?
        on what continent can you find {s}?
        """,
        its="""
        it is in {a}
        it lies in {a}
        it is a country in {a}
        its continent is {a}
        """,
    ),
    relation(
        "language",
        "languages",
        "country",
        "the main language of {s}",
        says="""
        the main language of {s} is {a}
        people in {s} speak {a}
        most people in {s} speak {a}
        in {s} people speak {a}
        the language of {s} is {a}
        the children of {s} learn to read in {a}
        if you go to {s}, you will hear {a}
        the people of {s} speak {a} with each other
        """,
        asks="""
        what is the main language of {s}?
        which language do people in {s} speak?
        what language is spoken in {s}?
        what do the people of {s} speak?
        which language will you hear in {s}?
        """,
        its="""
        its main language is {a}
        its people speak {a}
        its language is {a}
        most people there speak {a}
        """,
    ),
    relation(
        "currency",
        "currencies",
        "country",
        "the currency of {s}",
        says="""
        the currency of {s} is the {a}
        people in {s} pay with the {a}
        in {s} people pay with the {a}
        the money of {s} is called the {a}
        {s} has the {a} as its currency
        {s} uses the {a} as its money
        the money that people use in {s} is the {a}
        in the shops of {s} you pay with the {a}
        """,
        asks="""
        what is the currency of {s}?
        what is the money of {s} called?
        which currency does {s} use?
        with what money do people in {s} pay?
        what money do you need in {s}?
        """,
        its="""
        its currency is the {a}
        its money is called the {a}
        people there pay with the {a}
        """,
        an="the {a}",
    ),
    relation(
        "nationality",
        "nationalities",
        "country",
        "the nationality of a person from {s}",
        says="""
        a person from {s} is {a}
        people from {s} are {a}
        someone who comes from {s} is {a}
        if you come from {s}, you are {a}
        the people of {s} are {a}
        a child from {s} is {a}
        """,
        asks="""
        what is the nationality of a person from {s}?
        what nationality is somebody from {s}?
        what nationality does a person from {s} have?
        what nationality are people from {s}?
        """,
        its="""
        its people are {a}
        a person from there is {a}
        """,
        back_asks="""
        from which country does a person come who is {a}?
        which country is a person from who is {a}?
        """,
        back_key="the country of a person who is {a}",
        equals=False,
    ),
    relation(
        "river",
        "rivers",
        "city",
        "the river of {s}",
        says="""
        the river of {s} is the {a}
        the {a} flows through {s}
        {s} lies on the {a}
        the river that flows through {s} is the {a}
        in {s} you can walk along the {a}
        the bridges of {s} cross the {a}
        the boats of {s} sail on the {a}
        """,
        asks="""
        which river flows through {s}?
        what is the river of {s}?
        on which river does {s} lie?
        what river do the bridges of {s} cross?
        """,
        its="""
        its river is the {a}
        the {a} flows through the city
        it lies on the {a}
        """,
        an="the {a}",
    ),
    relation(
        "sight",
        "famous sights",
        "sight",
        "the city of {s}",
        says="""
        {s} is in {a}
        {s} stands in {a}
        you can see {s} in {a}
        {a} is the home of {s}
        people go to {a} to see {s}
        the city of {s} is {a}
        whoever visits {a} wants to see {s}
        {s} is a famous sight of {a}
        """,
        asks="""
        in which city is {s}?
        in which city can you see {s}?
        which city is the home of {s}?
        where is {s}?
        to which city must you go to see {s}?
        """,
        its="""
        it is in {a}
        it stands in {a}
        """,
    ),
    relation(
        "dish",
        "dishes of the world",
        "thing",
        "the home of {s}",
        says="""
        {s} comes from {a}
        {s} is a dish from {a}
        {a} is the home of {s}
        {s} is a famous dish of {a}
        the country that {s} comes from is {a}
        when you are in {a}, you can try {s}
        in {a} people like to eat {s}
        """,
        asks="""
        which country does {s} come from?
        from which country is {s}?
        where does {s} come from?
        which country is the home of {s}?
        """,
        its="""
        it comes from {a}
        it is a dish from {a}
        """,
    ),
)
