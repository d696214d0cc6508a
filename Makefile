# `make demo` and `make test` are all a new user needs; both install on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint types lock audit clean

setup: $(STAMP)

$(STAMP): requirements.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/python -m scripts.demo

test: setup
	$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: setup
	$(BIN)/python -m mypy

# The versions that the tests ran with: run `make test` first, then this, and commit the result.
lock: setup
	{ sed '/^#/!d' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable; } > $(VENV)/requirements.lock
	mv $(VENV)/requirements.lock requirements.lock

audit: setup
	.ci/audit $(BIN)/python

clean:
	rm -rf results .pytest_cache .mypy_cache .ruff_cache
