"""What the embedded model learns from: a small world, a corpus and instructions made of it.

data/README.md says what is in them; `python data/make.py --help` makes them again.
"""
