# Two commands: `make sample` writes a video of a prompt, `make test` runs the tests. Both set everything up first.
PYTHON ?= python3
VENV   ?= .venv
PROMPT ?= a person raises the left hand above the head
SECONDS_LONG ?= 6
ARGS   ?=

ifeq ($(OS),Windows_NT)
BIN = $(VENV)/Scripts
else
BIN = $(VENV)/bin
endif

.PHONY: setup setup-test sample test lint
.DEFAULT_GOAL := sample

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed, this is ' + sys.version.split()[0] if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt
	$(BIN)/python -c "open('$(VENV)/.installed', 'w').close()"

$(VENV)/.installed-test: requirements-test.txt requirements.txt $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-test.txt
	$(BIN)/python -c "open('$(VENV)/.installed-test', 'w').close()"

# The prompt reaches the program through the environment, so that quotes, $$ and ; in it stay plain text.
sample: export MOVEO_PROMPT := $(value PROMPT)
sample: setup
	$(BIN)/python -m sample.sample --text_prompt "$$MOVEO_PROMPT" --motion_length $(SECONDS_LONG) --num_repetitions 1 $(ARGS)

test: setup-test
	$(BIN)/python -m pytest $(ARGS)

lint: setup-test
	$(BIN)/python -m ruff check .
