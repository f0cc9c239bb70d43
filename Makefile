# Everything here works on a machine that has only Python 3.11 to 3.13 and make.
# README.md shows the same by hand, for Windows too.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
READY = .venv/.ready

.PHONY: install test test-slow lint format clean

install: $(READY)

# Anew whenever a list of requirements changes.
$(READY): requirements.txt requirements-dev.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or \
	name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c constraints.txt
	touch $(READY)

test: $(READY)
	.venv/bin/python -m pytest $(ARGS)

test-slow: $(READY)
	.venv/bin/python -m pytest -m slow $(ARGS)

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: $(READY)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
