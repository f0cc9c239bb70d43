"""How one speaks of months, days and the letters of the alphabet."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "next_month",
        "months",
        "month",
        "the month after {s}",
        says="""
        the month after {s} is {a}
        {a} comes after {s}
        after {s} comes {a}
        {s} comes before {a}
        the month before {a} is {s}
        when {s} is over, {a} begins
        """,
        asks="""
        which month comes after {s}?
        what is the month after {s}?
        which month begins when {s} is over?
        what month follows {s}?
        """,
        its="""
        the next month is {a}
        the month after it is {a}
        """,
        back_asks="""
        which month comes before {a}?
        what is the month before {a}?
        """,
        back_key="the month before {a}",
    ),
    relation(
        "month_place",
        "months",
        "month",
        "the place of {s} in the year",
        says="""
        {s} is the {a} month of the year
        the {a} month of the year is {s}
        in the year, {s} is the {a} month
        when we count the months, {s} is the {a}
        """,
        asks="""
        counted from January, which month of the year is {s}?
        in the order of the months, which place does {s} have?
        what place does {s} have among the months?
        what is the place of {s} in the year?
        """,
        its="""
        it is the {a} month of the year
        """,
        an="the {a}",
        back_asks="""
        which month is the {a} month of the year?
        what is the {a} month of the year?
        what is the name of the {a} month?
        """,
        back_key="the {a} month of the year",
        equals=False,
    ),
    relation(
        "month_days",
        "days of the months",
        "month",
        "the number of days in {s}",
        says="""
        {s} has {a} days
        there are {a} days in {s}
        the number of days in {s} is {a}
        if you count the days of {s}, you get {a}
        the month of {s} has {a} days
        """,
        asks="""
        how many days does {s} have?
        how many days are there in {s}?
        what is the number of days in {s}?
        how long is {s} in days?
        """,
        its="""
        it has {a} days
        there are {a} days in it
        """,
    ),
    relation(
        "season",
        "seasons",
        "month",
        "the season of {s} in Europe",
        says="""
        in Europe, {s} is in {a}
        {s} is a month of {a} in Europe
        in {s} it is {a} in Europe
        the season of {s} in Europe is {a}
        when it is {s} in Europe, it is {a}
        to people in Europe, {s} belongs to {a}
        """,
        asks="""
        in which season is {s} in Europe?
        what is the season of {s} in Europe?
        to which season does {s} belong in Europe?
        which season is it in Europe in {s}?
        """,
        its="""
        in Europe it is a month of {a}
        """,
    ),
    relation(
        "next_day",
        "days of the week",
        "day",
        "the day after {s}",
        says="""
        the day after {s} is {a}
        {a} comes after {s}
        after {s} comes {a}
        {s} comes before {a}
        the day before {a} is {s}
        if today is {s}, tomorrow is {a}
        if today is {a}, yesterday was {s}
        """,
        asks="""
        which day comes after {s}?
        what is the day after {s}?
        if today is {s}, what day is tomorrow?
        what day follows {s}?
        """,
        its="""
        the next day is {a}
        the day after it is {a}
        """,
        back_asks="""
        which day comes before {a}?
        what is the day before {a}?
        if today is {a}, what day was yesterday?
        """,
        back_key="the day before {a}",
    ),
    relation(
        "next_letter",
        "letters",
        "letter",
        "the letter after {s}",
        says="""
        the letter after {s} is {a}
        {a} comes after {s}
        {s} comes before {a}
        the letter before {a} is {s}
        in the alphabet, {a} follows {s}
        after {s} comes the letter {a}
        """,
        asks="""
        which letter comes after {s}?
        what is the letter after {s}?
        which letter follows {s} in the alphabet?
        what comes after {s} in the alphabet?
        """,
        back_asks="""
        which letter comes before {a}?
        what is the letter before {a}?
        what comes before {a} in the alphabet?
        """,
        back_key="the letter before {a}",
    ),
)
