# Pointsman. `make` lists what there is to do.
#
# Variables, given behind the target:
#   ARGS="..."           options for the program that the target runs, e.g. make run ARGS="--port 8080"
#   PYTHON=python3.12    the interpreter that a new environment is made with (3.11 or later)
#   VENV=DIR             a virtual environment of your own, taken as it is: nothing is installed into it

PYTHON ?= python3
UV ?= uv
ARGS =

# A stamp says that the environment holds what a lock file says; without VENV=DIR both lie in .venv.
ifeq ($(origin VENV),command line)
RUN_READY =
DEV_READY =
INSTALL_FUZZ = { echo "atheris is not in $(VENV): install it there, or leave VENV out" >&2; exit 1; }
else
VENV = .venv
RUN_READY = $(VENV)/.ready-to-run
DEV_READY = $(VENV)/.ready-to-develop
INSTALL_FUZZ = $(PIP_INSTALL) --no-build-isolation --editable '.[fuzz]'
endif

BIN = $(VENV)/bin
# Tests run in a process for each core, up to four; those of one file in one, where they share servers.
BESIDE = --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check install
COMPILE = $(UV) pip compile pyproject.toml requirements/build.in --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet $(ARGS)

.PHONY: help setup setup-dev run test test-fast check fix bench bench-peers soak chaos fuzz defences schemathesis agents lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: $(RUN_READY) ## make .venv and install what running needs, from the lock file

run: $(RUN_READY) ## start the gateway; sets up what is missing first
	@$(BIN)/pointsman local install >/dev/null || :
	@exec $(BIN)/pointsman serve $(ARGS)

setup-dev: $(DEV_READY) ## install what tests and checks need too

test: $(DEV_READY) ## run all tests
	@$(BIN)/python -m pytest $(BESIDE) $(ARGS)

test-fast: $(DEV_READY) ## run the tests that need no PostgreSQL, no local model and no network
	@$(BIN)/python -m pytest -k "not postgres and not local_model and not local_weights and not documentation" $(BESIDE) $(ARGS)

check: $(DEV_READY) ## format, lint, types, import rules, generated documentation
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check

fix: $(DEV_READY) ## format, repair what ruff can, write the generated documentation
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/python docs/generate.py

bench: $(RUN_READY) ## measure direct, nginx and Pointsman side by side (benchmarks/README.md)
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-peers: $(RUN_READY) ## the same beside LiteLLM and Portkey; installs them below .bench/ first
	@$(BIN)/python -m benchmarks.run --peers $(ARGS)

soak: $(RUN_READY) ## half an hour of mixed load: does memory, files or tasks grow? ARGS="--minutes 3"
	@$(BIN)/python -m benchmarks.soak $(ARGS)

chaos: $(RUN_READY) ## upstreams that fail all the time, a worker killed: is everything answered? ARGS="--minutes 10"
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

fuzz: $(DEV_READY) ## throw made-up bytes at the parsers, 60 s each (fuzz/README.md). ARGS="--seconds 600 edge"
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(INSTALL_FUZZ)
	@$(BIN)/python -m fuzz.run $(ARGS)

defences: $(DEV_READY) ## take each defence away: do the tests of its attack notice? (defences/README.md) ARGS="9 14"
	@$(BIN)/python -m defences.run $(ARGS)

schemathesis: $(DEV_READY) ## make up requests to every operation of the contracts. ARGS="--examples 1000 --seed 2"
	@$(BIN)/python -m pytest tests/contract/test_schemathesis.py --examples 300 $(ARGS)

agents: $(DEV_READY) ## Claude Code, Codex and opencode take a turn through the gateway (docs/coding-agents.md)
	@$(BIN)/python -m agents.run $(ARGS)

lock: ## write requirements/*.txt anew; needs uv. make lock ARGS=--upgrade takes newer versions
	$(COMPILE) --extra local --extra embed --output-file requirements/run.txt
	$(COMPILE) --extra local --extra embed --extra postgres --extra dev --constraint requirements/run.txt \
		--output-file requirements/dev.txt

clean: ## remove .venv, caches and build results; never data
	rm -rf .venv .agents .bench .fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests agents benchmarks defences fuzz docs -name __pycache__ -prune -exec rm -rf {} +

# The environment is made anew when it can't run pip: after an interrupted set-up, or without its interpreter.
$(VENV)/.ready-to-run: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Pointsman needs Python 3.11 or later; $(PYTHON) is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) can't make environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		{ echo "Setting up $(VENV) (some 60 packages, once) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@$(PIP_INSTALL) --require-hashes --no-deps -r requirements/run.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.ready-to-develop: $(VENV)/.ready-to-run requirements/dev.txt
	@$(PIP_INSTALL) --require-hashes --no-deps -r requirements/dev.txt
	@touch $@
