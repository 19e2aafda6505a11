PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet -c constraints.txt

.PHONY: help demo test check
.DEFAULT_GOAL := help

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) -e .
	@touch $@

.venv/dev: .venv/core
	$(INSTALL) -e '.[dev]'
	@touch $@

demo: .venv/core ## install and run the miniature: table, records and report under out/demo
	$(BIN)/omni-r1 demo

test: .venv/dev ## install and run the tests
	$(BIN)/python -m pytest -q

check: .venv/dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy
