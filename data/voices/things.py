"""How one speaks of things: colours, materials, where they come from, what kind they are."""

from data.voices.relation import relation

RELATIONS = (
    relation(
        "colour",
        "colours",
        "thing",
        "the colour of {one}",
        says="""
        the colour of {one} is {a}
        {one} is {a}
        {all} {are} {a}
        {a} is the colour of {one}
        if you paint {one}, you need {a} paint
        to draw {one}, you need {art} {a} pencil
        everybody knows that {all} {are} {a}
        """,
        asks="""
        what is the colour of {one}?
        what colour is {one}?
        which colour does {one} have?
        what colour {are} {all}?
        which colour do you need to paint {one}?
        """,
        its="""
        {it_is} {a}
        its colour is {a}
        """,
    ),
    relation(
        "material",
        "materials",
        "thing",
        "the material of {one}",
        says="""
        the material of {one} is {a}
        {one} is made of {a}
        {all} {are} made of {a}
        people make {all} of {a}
        to make {one}, you need {a}
        {one} is a thing of {a}
        the thing that {all} {are} made of is {a}
        """,
        asks="""
        what is {one} made of?
        what {are} {all} made of?
        what is the material of {one}?
        which material do you need to make {one}?
        of what do people make {all}?
        """,
        its="""
        {it_is} made of {a}
        the material is {a}
        """,
    ),
    relation(
        "source",
        "what things are made from",
        "thing",
        "the thing that {s} {are1} made from",
        says="""
        {s} {are1} made from {a}
        people make {s} from {a}
        we make {s} from {a}
        to make {s}, you need {a}
        without {a} there would be no {s}
        you need {a} if you want to make {s}
        somebody who wants to make {s} begins with {a}
        """,
        asks="""
        what {are1} {s} made from?
        what do you need to make {s}?
        what do people make {s} from?
        from what {are1} {s} made?
        """,
        its="""
        {it_is} made from {a}
        people make {it} from {a}
        """,
        equals=False,
    ),
    relation(
        "giver",
        "what animals give us",
        "thing",
        "the animal that gives us {s}",
        says="""
        {s} {come} from {an}
        we get {s} from {an}
        {an} gives us {s}
        the animal that gives us {s} is {an}
        without {as} there would be no {s}
        people need {as} to get {s}
        """,
        asks="""
        which animal gives us {s}?
        from which animal do we get {s}?
        which animal {do1} {s} come from?
        from which animal {do1} {s} come?
        """,
        its="""
        {it_come} from {an}
        we get {it} from {an}
        """,
        an="{art} {a}",
    ),
    relation(
        "kind",
        "kinds of things",
        "thing",
        "the right group for {one}",
        says="""
        {one} is {an}
        {one} is a kind of {a}
        {all} {are} {as}
        {one} is one of the {as}
        {all} {are} among the {as}
        {all} belong{s_if_mass} to the {as}
        """,
        asks="""
        what kind of thing is {one}?
        what sort of thing is {one}?
        which kind of thing is {one}?
        what is the right group for {one}?
        """,
        its="""
        {it_is} {an}
        {it_is} a kind of {a}
        """,
        an="{art} {a}",
        equals=False,
    ),
    relation(
        "family",
        "musical instruments",
        "thing",
        "the family of the {s}",
        says="""
        the {s} belongs to the {a} family
        the {s} is a {a} instrument
        the family of the {s} is {a}
        among the instruments, the {s} belongs to the {a} family
        in an orchestra, the {s} sits with the {a} instruments
        {many} are {a} instruments
        """,
        asks="""
        to which family of instruments does the {s} belong?
        what family of instruments is the {s} from?
        what kind of instrument is the {s}?
        which family does the {s} belong to?
        """,
        its="""
        it belongs to the {a} family
        it is a {a} instrument
        """,
    ),
    relation(
        "count",
        "counting legs and parts",
        "thing",
        "the number of {parts} of {one}",
        says="""
        {one} has {a} {parts}
        {many} have {a} {parts}
        the number of {parts} of {one} is {a}
        there are {a} {parts} on {one}
        if you count the {parts} of {one}, you get {a}
        """,
        asks="""
        how many {parts} does {one} have?
        how many {parts} do {many} have?
        what is the number of {parts} of {one}?
        how many {parts} are there on {one}?
        how many {parts} can you count on {one}?
        """,
        its="""
        it has {a} {parts}
        the number of its {parts} is {a}
        """,
    ),
)
