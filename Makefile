# Everything runs in .venv, which is made from requirements.txt; all that must be there already is a Python >= 3.11.

PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help demo test nightly fuzz lint format clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## from nothing to the first figure (CORES=n, default: all)
	@$(BIN)/mbml demo --cores $(CORES)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n auto

nightly: $(STAMP)  ## run the whole pipeline at tiny scale on every distribution
	$(BIN)/python -m pytest -n auto -m nightly

fuzz: $(STAMP)  ## give the commands a thousand damaged configurations, and the reader as many damaged stores
	$(BIN)/python -m pytest -n auto -m fuzz

lint: $(STAMP)  ## check style, types and the layers of the package
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## mend style where a tool can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Neither .venv nor runs/ (hours of work), nor .snakemake/, which knows what of runs/ is half-made.
clean:  ## remove caches and build products, keep .venv and runs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -path ./runs -prune -o \
		-type d \( -name __pycache__ -o -name .ipynb_checkpoints -o -name '*.egg-info' \) -exec rm -rf {} +

# The stamp is the last thing made, so that a failed install is begun again. A sound .venv is updated, any other made anew.
$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
		echo "error: '$(PYTHON)' is no Python >= 3.11; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && $(BIN)/python -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
		echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $@
	@echo "installing the pinned packages into $(VENV)"
	@$(PIP) "$$(grep '^torch==' requirements.txt)"
	@$(PIP) --requirement requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
