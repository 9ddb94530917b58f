# `make help` lists what can be made. On a fresh machine only Python 3.11 to 3.13 and make are needed; for the deployment,
# which is the first part of the list, only Docker with compose, make and a shell.

# Whoever has made a .env wants what it describes.
.DEFAULT_GOAL := $(if $(wildcard .env),up,help)

PYTHON ?= python3
# Set to anything, `make demo` checks itself and exits instead of serving.
CHECK ?=
# How long `make soak` loads the server, in seconds, and the dice that it repeats (any text).
SOAK_SECONDS ?= 600
SOAK_SEED ?=
# How long `make bench` measures each kind of hit, in seconds, and how many files its large index has.
BENCH_SECONDS ?= 5
BENCH_FILES ?= 1000000
# Where `make demo` listens on 127.0.0.1.
PORT ?= 8000
export FUZZ_SECONDS FUZZ_SEED FUZZ_REPLAY

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PYZ := dist/pkgserver.pyz
# Unpacked here, `make clean` removes it.
RUN_PYZ = SHIV_ROOT=build/unpacked $(PYTHON) $(PYZ)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/pkgserver_trio/__init__.py)
SOURCES := $(shell find src -type f -not -name '*.pyc' 2>/dev/null)
SCRIPTS = $(shell grep -rlE '^\#!.*(/|env )(ba)?sh$$' .ci compose tests --include='*' --exclude='*.py')
PACKING := shiv.spec requirements.lock pyproject.toml README.md LICENSE .ci/build_zipapp.py .ci/zipapp_main.py
# No address of a package index gets into a lock file; one set of versions serves all supported Pythons. What the zipapp
# holds is the same for all of them; tools may differ in what else they need (--universal writes down when).
UV_COMPILE = build/lock/bin/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links
# The build backend is installed with the tools, by hash: the zipapp's build fetches nothing of its own. The image's build
# needs only these few of the tools.
BUILD_REQUIRES = $(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'

# One process for each processor; modules stay whole (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses=auto

# Rules of flake8-async that do not fit: 114 wants every startable function listed; 122 is for Trio before 0.27; 124: an
# async function without an await is one that a protocol awaits; 127: httpx is our given client; 128 does not see that
# `task_status` is handed on; 9xx: that some paths have no checkpoint is relied on (coalesce.py, rule 2).
NOT_ASYNC := ASYNC114,ASYNC122,ASYNC124,ASYNC127,ASYNC128,ASYNC9

# What runs as a process of its own, or is seen over a socket only, is tested so; all the rest in every branch.
SHOWN_BY_RUNNING := */web/*,*/demo/*,*/__main__.py,*/cli.py,*/main.py,*/building.py,*/process.py,*/verify.py

.DELETE_ON_ERROR:
.PHONY: up down restart logs pull build status config nginx-reload trigger-update stop-update destroy
.PHONY: help demo run test fuzz soak bench check format-check lint lint-deployment types layers coverage pyz format lock
.PHONY: clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

up: ## Start the deployment that .env describes, or change it to what .env says now
	@compose/run --with compose/up

down: ## Stop the deployment
	@compose/run --with compose/down

restart: ## Start the containers anew, one after the other
	@compose/run --with compose/up --force-recreate

logs: ## Show what the containers write, as they write it
	@compose/run logs --follow --tail=100

pull: ## Get the images of the containers
	@compose/run --with sh -c '[ "$$PKGSERVER_IMAGE" = localhost/pkgserver-trio ] || docker pull "$$PKGSERVER_IMAGE"'
	@compose/run pull $$(compose/run config --services | grep -v '^pkgserver')

build: ## Build the image of the servers
	docker build --file docker/Dockerfile --tag localhost/pkgserver-trio --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

status: ## Show the containers and whether they are healthy
	@compose/run ps

config: ## Show what compose makes of .env
	@compose/run config

nginx-reload: ## Let nginx read its certificates and configuration again
	@compose/run exec -T frontend nginx -t -q
	@compose/run exec -T frontend nginx -s reload

trigger-update: ## Replace the servers by a newer image, if there is one, now
	@compose/run --with compose/update trigger

stop-update: ## Let the servers be as they are, until `make up`
	@compose/run --with compose/update stop

destroy: ## Stop the deployment and remove all that it has stored (asks first)
	@compose/run --with compose/destroy

demo: $(PYZ) ## Serve a small sample registry, with nothing from outside (PORT=...; CHECK=1: fetch it all, verify it, exit)
	@$(RUN_PYZ) demo $(if $(CHECK),--check,--port $(PORT))

run: $(PYZ) ## Serve packages from the official storage servers
	@$(RUN_PYZ)

test: $(PYZ) ## Run all tests
	$(PYTEST)

fuzz: $(READY) ## Try damaged inputs on the parsers (FUZZ_SECONDS=60, FUZZ_SEED=..., FUZZ_REPLAY=a finding's file)
	PYTHONPATH=src:. $(BIN)/python -m tests.fuzz.run

soak: $(PYZ) ## Load the server, with faults of all kinds, for ten minutes, and look at every answer (SOAK_SECONDS=60)
	@PYTHONPATH=src:. SOAK_SECONDS='$(SOAK_SECONDS)' SOAK_SEED='$(SOAK_SEED)' $(BIN)/python -m tests.soak

bench: $(PYZ) ## Measure the server beside nginx, on the same files at the same time (BENCH_SECONDS=5, BENCH_FILES=1000000)
	@PYTHONPATH=src:. BENCH_SECONDS='$(BENCH_SECONDS)' BENCH_FILES='$(BENCH_FILES)' $(BIN)/python -m tests.bench

check: format-check lint lint-deployment types layers $(PYZ) coverage ## Do all that continuous integration does

format-check: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .
	@find src tests -name '*.py' | xargs -n 24 -P 2 $(BIN)/flake8-async --disable=$(NOT_ASYNC)

lint-deployment: $(READY)
	$(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR --source-path=. $(SCRIPTS)
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose/compose.yaml

types: $(READY)
	$(BIN)/mypy src tests .ci

layers: $(READY)
	PYTHONPATH=src $(BIN)/lint-imports

coverage: $(READY) $(PYZ)
	$(PYTEST) --cov --cov-report=
	$(BIN)/coverage report
	@$(BIN)/coverage report --fail-under=100 --omit='$(SHOWN_BY_RUNNING)' >/dev/null || \
		{ echo "make: below the web layer every branch has to be tested"; exit 1; }

pyz: $(PYZ) ## Build dist/pkgserver.pyz, the whole server in one file

$(PYZ): $(READY) $(PACKING) $(SOURCES)
	@$(BIN)/python .ci/build_zipapp.py $@

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lock: ## Move all dependencies to their newest allowed versions
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install -qq uv
	$(UV_COMPILE) pyproject.toml --extra compiled --output-file requirements.lock
	$(BUILD_REQUIRES) | $(UV_COMPILE) --universal pyproject.toml - --extra compiled --group dev \
		--constraint requirements.lock --output-file requirements-dev.lock
	{ $(BUILD_REQUIRES); echo shiv; } | $(UV_COMPILE) --universal - --constraint requirements-dev.lock \
		--output-file requirements-build.lock

$(READY): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "make: Python 3.11 to 3.13 is needed: make PYTHON=python3.13 ...")'
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

clean: ## Remove everything that was made here
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
