"""How people say what is true: for each relation its sentences and its questions."""
