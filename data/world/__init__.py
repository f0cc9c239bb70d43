"""The small world: its things, and what is true of them, in tables written by hand."""
