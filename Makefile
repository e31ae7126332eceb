# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS := $(VENV)/.runs
JOBS ?= 2
# Compiled once and kept: else every process that a test starts compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help install setup lock demo test test-fast test-latest check check-lock typescript-client format notebooks docs peers bench bench-full sample starter-clip wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ifdef CPU
# PyTorch without CUDA is on an index of its own; the other pins are installed as they stand, without what CUDA needs.
define install
	sed -nE 's/^((torch|torchvision)==[^ ;]+).*/\1/p' $(1) > $(VENV)/torch.txt
	$(PIP) --index-url https://download.pytorch.org/whl/cpu -r $(VENV)/torch.txt
	awk -f tools/without_cuda.awk $(1) > $(VENV)/others.txt
	$(PIP) --no-deps --require-hashes -r $(VENV)/others.txt
endef
else
define install
	$(PIP) --require-hashes -r $(1)
endef
endif

$(RUNS): pyproject.toml requirements-run.lock
	$(PYTHON) -m venv $(VENV)
	$(call install,requirements-run.lock)
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(INSTALLED): $(RUNS) requirements.lock
	$(call install,requirements.lock)
	@touch $@

install: $(RUNS) ## make .venv with the pinned releases that all commands need; CPU=1 takes PyTorch without CUDA

setup: $(INSTALLED) ## the same with what tests, documents and development need besides

lock: $(INSTALLED) ## pin in the lock files what pyproject.toml asks for; UPGRADE=1 takes the newest within its bounds
	$(BIN)/python -m tools.lock_file make $(if $(UPGRADE),--upgrade)

demo: $(RUNS) ## embed, index and search the sample catalogue; fetches the starter models once
	$(BIN)/coldstart demo --out demo-out

test: $(INSTALLED) ## run all tests, those with real models and media too, in JOBS=2 processes
	$(BIN)/coldstart models pull starter >/dev/null
	$(PYTEST) --durations=10

test-fast: $(INSTALLED) ## run the tests that answer at once: those not marked slow
	$(PYTEST) -m "not slow"

test-latest: $(INSTALLED) ## run the tests with the newest release of everything, in .venv-latest; TESTS="..." for some
	$(BIN)/coldstart models pull starter >/dev/null
	$(BIN)/python -m tools.newest $(TESTS)

check-lock: $(INSTALLED) ## see that the lock files fit pyproject.toml
	$(BIN)/python -m tools.lock_file check

check: $(INSTALLED) check-lock ## format, lint, types, import contracts, lock files, Dockerfile: what CI holds the code to
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

format: $(INSTALLED) ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

typescript-client: $(INSTALLED) ## make the TypeScript client of the server in build/typescript-client (needs node)
	$(BIN)/python tools/typescript_client.py build/typescript-client

notebooks: demo ## execute every notebook on the demo workspace
	$(BIN)/python tools/run_notebooks.py

docs: $(INSTALLED) ## build the documentation into site/; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

peers: $(INSTALLED) ## install the programs that benchmarks compare with, each in .peers/NAME
	$(BIN)/python -m benchmarks.peers.install

bench: $(INSTALLED) ## measure in short form, in half an hour; called again goes on, ANEW=1 begins again; writes benchmarks/README.md
	$(BIN)/python -m benchmarks $(if $(ANEW),--anew)

bench-full: $(INSTALLED) ## measure at full size, many hours; goes on as bench does; writes benchmarks/README.md
	$(BIN)/python -m benchmarks --full $(if $(ANEW),--anew)

sample: $(INSTALLED) ## make the sample catalogue again from COLDSTART_DATA (needs espeak-ng)
	$(BIN)/python tools/make_sample.py

starter-clip: $(INSTALLED) ## train the heads of starter-clip again from COLDSTART_DATA
	$(BIN)/python -m tools.starter_clip.train --data $(or $(COLDSTART_DATA),../shared/data) \
		--out coldstart/weights/starter_clip --cache .bench/starter_clip

wheel: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove what make made, except the downloaded models
	rm -rf $(VENV) .venv-latest .peers demo-out dist build site .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
