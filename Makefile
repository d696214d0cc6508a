# `make demo` and `make test` are all a new user needs; both install on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint types clean

setup: $(STAMP)

$(STAMP): requirements.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/python inference.py --face examples/portrait.jpg --audio examples/speech.wav --outfile results/demo.mp4
	$(BIN)/python -m scripts.make_contact_sheet results/demo.mp4

test: setup
	$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: setup
	$(BIN)/python -m mypy

clean:
	rm -rf results .pytest_cache .mypy_cache .ruff_cache
