"""What `scripts/benchmark.py` measures: this code beside others, on the same work, in turn.

rounds.py      turns, medians, and how many rounds fit into the time that there is
files.py       loading a model's folder, in our format and in OpenAI's
data.py        from a JSON file to masked ids
work.py        what is trained on: the same weights, ids and steps for all, and their arithmetic
workers.py     a process for each way, which waits while another has its turn
our_loop.py    one step of ours, with the levers as they are asked for
trl_loop.py    one step of TRL's SFTTrainer
book_loop.py   one step of LLMs-from-scratch's chapter 7
training.py    loss and gradient held to one reference, then rounds in turn; the ladder
generation.py  the same prompts answered by each
report.py      the page, its picture and the raw rounds
"""
