# Everything bootstraps its own environment in .venv. People without make find the same lines in the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
RUN := $(BIN)/python
SCALE := $(if $(QUICK),quick,full)
STUDY_SCALE ?= quick
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 3
# glibc then asks Linux for huge pages: fresh 30 MB arrays cost far fewer page faults (NOTES.md in benchmarks/ has the figures)
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
# modules are compiled when they are first imported, not all of them before; what was compiled is kept, also where the environment
# says otherwise (many containers do), since compiling them anew takes each process some ten seconds
export PYTHONDONTWRITEBYTECODE :=
# the build for processors (0.2 GB); the one of package registries brings CUDA along (several GB). pip goes on where it is out of reach
TORCH_INDEX := https://download.pytorch.org/whl/cpu
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: report study test test-all lint format lab bench clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

report: $(VENV)/.user  ## run vui_notebook.ipynb from the top and write results/vui_notebook.html (QUICK=1: shorter)
	$(RUN) vui.py data demo
	$(RUN) vui.py report vui_notebook.ipynb --scale $(SCALE)

study: $(VENV)/.user  ## run model_study_notebook.ipynb with small networks (its machinery; STUDY_SCALE=full: all of it)
	$(RUN) vui.py report model_study_notebook.ipynb --scale $(STUDY_SCALE)

test: $(VENV)/.dev  ## the fast tests, on TensorFlow; the contract subset on JAX too
	$(RUN) -m pytest $(PARALLEL) -m "not slow and not gpu"
	KERAS_BACKEND=jax $(RUN) -m pytest $(PARALLEL) -m "contract and not slow and not gpu"

test-all: $(VENV)/.dev  ## every test, on both backends
	$(RUN) -m pytest $(PARALLEL) -m "not gpu"
	KERAS_BACKEND=jax $(RUN) -m pytest $(PARALLEL) -m "not gpu"

lint: $(VENV)/.dev  ## style, layers, types, and whether the pages agree with the records
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	KERAS_BACKEND=jax $(RUN) vui.py compare --check

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(VENV)/.user  ## open the notebook in JupyterLab
	$(RUN) -m ipykernel install --prefix $(VENV) --name python3 --display-name "VUI lab"
	$(RUN) -m jupyterlab vui_notebook.ipynb

bench: $(VENV)/.bench  ## speed against PyTorch and stock Keras, features, inference, scale (QUICK=1: tries the scripts out)
	$(RUN) vui.py data demo
	$(RUN) -m benchmarks.check_peers
	$(RUN) -m benchmarks.bench_training $(if $(QUICK),--quick)
	$(RUN) -m benchmarks.bench_epoch $(if $(QUICK),--quick)
	$(RUN) -m benchmarks.bench_inference $(if $(QUICK),--quick)
	$(RUN) -m benchmarks.bench_length_awareness $(if $(QUICK),--quick)
	$(RUN) -m benchmarks.bench_scale $(if $(QUICK),--quick)

clean:  ## delete what can be made again: .venv, caches, the demo corpora, the reports (trained models stay)
	@echo "Deleting .venv, caches, LibriSpeech/demo* and the reports; trained models in results/ stay"
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build *.egg-info LibriSpeech/demo LibriSpeech/demo-tiny
	find . -name __pycache__ -prune -exec rm -rf {} +
	find LibriSpeech -name .features -prune -exec rm -rf {} +
	rm -f results/*_notebook.html results/*_notebook.ipynb

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3,11) <= sys.version_info[:2] <= (3,13) else "Python 3.11, 3.12 or 3.13 is needed; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.user: $(VENV)/.created requirements.txt constraints.txt
	@echo "Installing the packages of requirements.txt into $(VENV) (about 2 GB; a few minutes the first time)"
	$(PIP) -c constraints.txt -r requirements.txt setuptools
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# what a user needs is part of it, so that pip looks for all of it once
$(VENV)/.dev: $(VENV)/.created requirements.txt constraints.txt pyproject.toml
	@echo "Installing the packages for use and for tests into $(VENV) (about 2 GB; a few minutes the first time)"
	$(PIP) -c constraints.txt setuptools
	$(PIP) -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(VENV)/.user $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Installing PyTorch for the benchmarks"
	$(PIP) -c constraints.txt --extra-index-url $(TORCH_INDEX) --no-build-isolation -e '.[bench]'
	@touch $@
