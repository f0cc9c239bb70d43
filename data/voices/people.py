"""How one speaks of jobs, and of works and those who made them."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "job",
        "jobs",
        "job",
        "the work of {one}",
        says="""
        {one} {a}
        {many} {do}
        the work of {one} is to {do}
        somebody who {a} is {one}
        a person who {a} is called {one}
        it is the work of {one} to {do}
        if you want to {do}, you can become {one}
        """,
        asks="""
        what does {one} do?
        what does every {s} do?
        what does {one} do all day?
        what does {one} do at work?
        """,
        bare="{one} {a}",
        back_asks="""
        who {a}?
        what do you call a person who {a}?
        what is the name of the job of somebody who {a}?
        what can you become if you want to {do}?
        which person {a}?
        """,
        back_key="the word for a person who {a}",
        equals=False,
    ),
    relation(
        "tool",
        "tools",
        "job",
        "the tool of {one}",
        says="""
        the tool of {one} is {an}
        {one} works with {an}
        {one} uses {an}
        {many} use {an} at work
        {an} is the tool of {one}
        {one} needs {an}
        without {an}, {one} cannot work
        every {s} has {an}
        """,
        asks="""
        what tool does {one} use?
        what is the tool of {one}?
        what does {one} work with?
        which tool does {one} need?
        what does every {s} need for the work?
        """,
        an="{art} {a}",
        back_asks="""
        who works with {an}?
        who uses {an} at work?
        whose tool is {an}?
        """,
        back_key="the person whose tool is {an}",
    ),
    relation(
        "workplace",
        "workplaces",
        "job",
        "the workplace of {one}",
        says="""
        the workplace of {one} is {an}
        {one} works {prep} {an}
        {many} work {prep} {an}
        you can find {one} {prep} {an}
        if you look for {one}, you should go to {an}
        {prep} {an} you can meet {one}
        every morning {one} goes to {an}
        """,
        asks="""
        where does {one} work?
        where do {many} work?
        what is the workplace of {one}?
        where can you find {one}?
        where does {one} go every morning?
        """,
        an="{art} {a}",
        bare="{prep} {an}",
    ),
    relation(
        "maker",
        "works and their makers",
        "work",
        "the {who} of {s}",
        says="""
        the {who} of {s} is {a}
        {s} was {made} by {a}
        {a} is the {who} of {s}
        it was {a} who {did} {s}
        {a} {did} {s}
        the {noun} {s} is by {a}
        the person who {did} {s} is {a}
        """,
        asks="""
        who {did} {s}?
        who is the {who} of {s}?
        by whom was {s} {made}?
        what is the name of the {who} of {s}?
        which {who} {did} {s}?
        """,
        its="""
        it was {made} by {a}
        its {who} is {a}
        """,
    ),
    relation(
        "homeland",
        "famous people",
        "person",
        "the home country of {s}",
        says="""
        the home country of {s} is {a}
        {s} came from {a}
        {s} was born in {a}
        {a} is the home country of {s}
        the country that {s} came from is {a}
        people in {a} are proud of {s}
        """,
        asks="""
        which country did {s} come from?
        in which country was {s} born?
        what is the home country of {s}?
        where did {s} come from?
        """,
    ),
)
