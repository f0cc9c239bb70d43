"""The instructions: what is asked of whom, with which answer, and on which side it stands."""
