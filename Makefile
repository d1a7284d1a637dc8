# Each target works alone on a fresh clone with make and Python >= 3.11 and nothing else.

PYTHON ?= python3
PYTEST_ARGS ?=
BIN := .venv/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null)
BASE := .venv/.installed-$(VERSION)
DEV := .venv/.installed-dev-$(VERSION)
DOCS := .venv/.installed-docs-$(VERSION)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(BASE)  ## compare priors and objectives on the digits; writes report/
	$(BIN)/priory compare --data digits --prior normal,mixture,vamp,stick-breaking \
		--objective elbo,iwae:10 --seeds 3 --out report --overwrite

test: $(DEV)  ## run the tests; PYTEST_ARGS="-k house" passes options on
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

check: $(DEV)  ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(DOCS)  ## build the pages, to be opened at docs/_build/html/index.html
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html

clean:  ## remove .venv, report/, build output and caches
	rm -rf docs/_build docs/api docs/families docs/gallery docs/tutorials
	rm -rf .venv report build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# An environment of another Python, or without pip (cut short while it was made), is made anew.
define venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Priory needs \
Python >= 3.11, and $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
@{ test -x $(BIN)/pip && $(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] \
!= "$(VERSION)")'; } || { echo "making .venv with Python $(VERSION)"; $(PYTHON) -m venv --clear .venv; }
endef

$(BASE): pyproject.toml constraints.txt
	$(venv)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt
	$(venv)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(BASE)

$(DOCS): pyproject.toml constraints.txt
	$(venv)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	@touch $@ $(BASE)
