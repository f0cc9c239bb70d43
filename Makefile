# Everything here works on a machine that has only Python 3.11 to 3.13 and make.
# README.md shows the same by hand, for Windows too.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
READY = .venv/.ready

define VENV
@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or \
name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
@test -x .venv/bin/python || $(PYTHON) -m venv .venv
endef

.PHONY: install train chat mini test test-slow bench lint format clean

install: $(READY)

# Anew whenever a list of requirements changes.
$(READY): requirements.txt requirements-dev.txt constraints.txt
	$(VENV)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c constraints.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		llms-from-scratch -c constraints.txt
	touch $(READY)

# To run it takes seven packages; to test it takes many more.
RUNS = .venv/.runs

$(RUNS): requirements.txt constraints.txt
	$(VENV)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements.txt -c constraints.txt
	touch $(RUNS)

# Tune the embedded model and look at what it learned. OUT=folder and ARGS="--epochs 3" as you like.
OUT ?= checkpoints/mini-instructions

train: $(RUNS)
	.venv/bin/python scripts/train.py --out $(OUT) \
		$(if $(findstring --resume,$(ARGS)),,--overwrite) $(ARGS)

chat: $(RUNS)
	@test -d $(OUT)/best || { echo "error: $(OUT): nothing tuned there yet: make train" >&2; exit 2; }
	.venv/bin/python scripts/chat.py --model $(OUT) $(ARGS)

# The embedded model itself, made again from nothing: hours on a CPU.
mini: $(RUNS)
	.venv/bin/python scripts/make_mini.py $(ARGS)

test: $(READY)
	.venv/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(READY)
	.venv/bin/python -m pytest -n 2 --dist loadfile -m slow $(ARGS)

# Beside TRL and the book's package, on the same work; some minutes on a machine that is left alone.
bench: $(READY)
	.venv/bin/python scripts/benchmark.py $(ARGS)

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: $(READY)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
