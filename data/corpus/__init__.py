"""The text of the corpus: who speaks in it, the kinds of documents, and their stream."""
