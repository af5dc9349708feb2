# Every command sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No telemetry from any part.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup repro ui sweep params docs screenshots format lint check test-fast test test-services test-clients test-scale

help:  ## this list
	@echo "reviewtune: fine-tune a small model to classify customer reviews, and prove that it beats a prompt"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22
	@echo
	@echo "  own data: reviewtune init-data FILE, then: dvc exp run -S data=NAME"
	@echo "  (to call dvc, mlflow and reviewtune directly: source $(VENV)/bin/activate)"

setup: $(STAMP)  ## the virtual environment .venv, once

$(STAMP): requirements.lock requirements-local.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"error: Python 3.11 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}; try: make setup PYTHON=python3.12" if not (3, 11) <= v <= (3, 13) else 0)'
	@echo "setting up $(VENV), once: about 3 minutes on a fast connection, and 2.3 GB of disk (more if torch comes with CUDA)"
	@$(PYTHON) -m venv $(VENV)
	@echo "  1 of 3: the packages of the pipeline (DVC, MLflow, scikit-learn, ...)"
	@python -m pip install --quiet -r requirements.lock
	@echo "  2 of 3: the packages of the local model (torch, transformers, ...), the largest download"
	@python -m pip install --quiet -c requirements.lock -r requirements-local.txt
	@echo "  3 of 3: reviewtune itself"
	@python -m pip install --quiet --no-deps --editable .
	@touch $@

repro: setup  ## the pipeline on the labelled reviews: fine-tune, evaluate, compare; only what is stale runs
	@# If DVC is killed while writing dvc.lock, it leaves an empty file that it refuses to read; finished work is found without it.
	@[ -s dvc.lock ] || rm -f dvc.lock
	@dvc repro
	@reviewtune compare

ui: setup  ## the MLflow UI at http://127.0.0.1:5000
	@reviewtune ui

sweep: setup  ## a small multirun: two prompts x two epoch counts, ranked
	@python stages/sweep.py --multirun prompt=short,detailed training.n_epochs=1,2

params: setup  ## conf/ -> params.yaml, after every change of conf/
	@python stages/check_config.py --write

docs: setup  ## docs/commands.md and docs/configuration.md, after every change of a command or a setting
	@python tools/reference.py

screenshots: setup  ## docs/images/ of the MLflow UI and of a data report, of a real small sweep; needs chromium
	@python tools/screenshots.py

check: lint  ## lint, types, import directions, configuration in sync
	pytest -q tests/test_project.py tests/test_documents.py

lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

format: setup  ## apply the formatter and the linter's safe fixes
	ruff check --fix .
	ruff format .

test-fast: setup  ## tests without the model, the pipeline and the local server: seconds to a few minutes
	pytest --ignore tests/local_server -m 'not services and not clients and not model and not pipeline' --numprocesses logical --maxprocesses 4 --dist loadfile

# Threads that spin at barriers, and a process that takes all cores for small matrices, would take the core from another
# process's test.
test: export OMP_WAIT_POLICY := passive
test: export OPENBLAS_NUM_THREADS := 1
test: lint  ## check, then all tests, a file at a time on each of up to four cores (`pytest` alone: fast ones first)
	pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-services: setup  ## real services (PostgreSQL, S3, an MLflow server; installs them if it can), and a fresh light client
	python -m pip install --quiet -c requirements.lock -e '.[team,services]'
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null \
		|| { test "$$(id -u)" = 0 && timeout 120 apt-get update -qq && apt-get install -qq --no-install-recommends postgresql; } \
		|| echo "no PostgreSQL, and it cannot be installed here: apt-get install postgresql"
	pytest -m services -rs tests/test_services.py tests/analyzer/test_light_client.py

# An environment that cannot be installed does not stop the others: the tests say which clients they left out.
CLIENT_STAMPS := $(patsubst tests/clients/requirements-%.txt,.clients/%/.installed,$(wildcard tests/clients/requirements-*.txt))
CLIENT_STAMPS += $(patsubst tests/clients/%/package.json,.clients/%/.installed,$(wildcard tests/clients/*/package.json))

.clients/%/.installed: tests/clients/requirements-%.txt
	@echo "setting up .clients/$*, once"
	@{ python -m venv --clear .clients/$* && timeout 600 .clients/$*/bin/python -m pip install --quiet --no-deps -r $< && touch $@; } \
		|| { rm -rf .clients/$*; echo "cannot install $<: its clients are left out"; }

.clients/%/.installed: tests/clients/%/package.json tests/clients/%/package-lock.json
	@echo "setting up .clients/$*, once"
	@{ mkdir -p $(@D) && cp $^ $(@D) && timeout 300 npm ci --prefix $(@D) --omit=optional --silent --no-audit --no-fund && touch $@; } \
		|| { rm -rf $(@D); echo "cannot install tests/clients/$*: its client is left out"; }

test-clients: setup $(CLIENT_STAMPS)  ## the clients of docs/clients.md (LangChain, LiteLLM, DSPy, ...) with the local provider; installs them
	pytest -m clients -rs tests/clients

test-scale: setup  ## sweeps on Ray, joblib, submitit and Optuna, and files in parts on Ray; installs them first
	python -m pip install --quiet -c requirements.lock --editable '.[ray,slurm,parallel,search]'
	pytest tests/sweeps/test_scale_out.py tests/bulk/test_on_ray.py
