# From a fresh clone to a running job (`make demo`) and to passed tests (`make test`), with git, make and Python >= 3.11.
# Developers' further commands are in the justfile.

# Give PYTHON=... to choose an interpreter; otherwise the first of these that is new enough and can make environments.
PYTHON ?=
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test venv lint clean

help:
	@echo 'make demo    runs a job on an embedded server and shows its log live'
	@echo 'make test    runs the tests (PYTEST_ARGS=... for more arguments)'
	@echo 'make lint    checks style, types and the direction of imports'
	@echo 'make venv    makes $(VENV) from requirements.lock; the others do so by themselves'
	@echo 'make clean   removes $(VENV), caches and build results'

# The demo's job ends with exit code 3 on purpose, and `hodei run` ends with its job's code. Make can't hand a code on (it
# ends with 2 for any failure), so the recipe prints the code, and succeeds when it is the one that the job left with.
demo: $(STAMP)
	@echo 'hodei run --local -- sh docs/demo.sh'
	@code=0; $(BIN)/hodei run --local -- sh "$(CURDIR)/docs/demo.sh" || code=$$?; \
	echo "The job ended with exit code $$code."; \
	if [ "$$code" -ne 3 ]; then echo 'make: docs/demo.sh ends with 3, so something went wrong.' >&2; exit 1; fi

test: $(STAMP)
	@$(BIN)/pytest $(PYTEST_ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@found=; old=; bare=; \
	for each in $(or $(PYTHON),$(CANDIDATES)); do \
	    version=$$("$$each" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    if ! "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then old="$$old $$each is $$version,"; \
	    elif ! "$$each" -c 'import ensurepip, venv' 2>/dev/null; then bare=$${bare:-$$version}; \
	    else found=$$each; break; fi; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	    echo "make: Python $$bare can't make virtual environments here; on Debian and Ubuntu: apt install python$$bare-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	    echo "make: Hodei needs Python 3.11 or newer, and$${old:-$(if $(PYTHON), $(PYTHON) does not run, there is none),} so: install one, or name one with PYTHON=..." >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$found ($$version)"; \
	"$$found" -m venv $(VENV)
	@echo 'installing what requirements.lock names'
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@echo 'installing hodei'
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'removed $(VENV), caches and build results'
