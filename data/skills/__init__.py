"""Things to do with a right result, as the corpus shows them and the instructions ask for them."""
