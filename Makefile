# `make demo` and `make test` are all that a fresh machine needs; the README has the plain commands.
# Variables: CPU=1 installs PyTorch's CPU build, LOCKED=1 the versions of requirements.lock.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
RUN := $(VENV)/bin/python
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check $(if $(CPU),--no-compile)
LOCK = $(if $(LOCKED),--constraint requirements.lock)
TORCH = $(if $(LOCKED),$(shell grep -Eo '^torch(vision)?==[^ ]+' requirements.lock),torch torchvision)
INSTALLED := $(VENV)/installed$(if $(CPU),-cpu)$(if $(LOCKED),-locked)

.PHONY: demo demo-model install test test-all torture gpu lint bench speedrun lock clean help

help:
	@echo "make demo      install, make demo music, train a small GAN, generate a page of new sounds"
	@echo "make install   install into $(VENV); CPU=1 without CUDA, LOCKED=1 with pinned versions"
	@echo "make test      install and run the fast tests"
	@echo "make test-all  run the slow tests: kills, power cuts, several processes, commands of docs/"
	@echo "make torture   run the fault tests in their long form: thousands of faults, for hours"
	@echo "make lint      check style, formatting and types"
	@echo "make bench     measure the speed and write docs/benchmarks.md, a quarter of an hour"
	@echo "make gpu       run the tests that need a GPU, measure there, write docs/benchmarks.md"
	@echo "make speedrun  measure the CPU time to good samples; CHANGE='…' adds a row to docs/speedrun.md"
	@echo "make lock      resolve requirements.lock; UPGRADE=1 takes the newest versions"
	@echo "make demo-model  train the model of the package, --checkpoint demo, half an hour at most"
	@echo "make clean     remove the environment and the output of the demo"

# The stamp file records that the environment satisfies the requirements, so nothing is installed twice.
$(INSTALLED): requirements.txt pyproject.toml $(if $(LOCKED),requirements.lock)
	@echo "Installing into $(VENV): about three minutes and $(if $(CPU),1.4,7) GB"
	@$(PYTHON) -m venv $(VENV)
	@$(if $(CPU),$(INSTALL) $(TORCH) --index-url $(TORCH_INDEX))
	@$(INSTALL) $(LOCK) --editable .
	@touch $@

$(INSTALLED)-dev: $(INSTALLED) requirements-dev.txt
	@$(INSTALL) $(LOCK) -r requirements-dev.txt
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(RUN) preprocess.py --dataset demo --output demo_images
	@$(RUN) run.py --config configs/demo.yaml --dataset demo_images
	@$(RUN) -m musicspectrogan generate --checkpoint latest --count 4

# The same commands on the same versions and kind of processor give the same weights.
demo-model: $(INSTALLED)
	@$(RUN) preprocess.py --dataset demo --output demo_images
	@$(RUN) run.py --config configs/demo.yaml --dataset demo_images --images 150k --seed 0 \
		--output runs/demo
	@$(RUN) -m musicspectrogan evaluate --checkpoint runs/demo/checkpoints/latest.pt
	@$(RUN) -m musicspectrogan export --checkpoint runs/demo/checkpoints/latest.pt --half \
		--sounds 0 --license mit --output musicspectrogan/demo --overwrite

speedrun: $(INSTALLED)-dev
	@$(RUN) preprocess.py --dataset demo --output demo_images
	@PYTHONPATH=. $(RUN) benchmarks/speedrun.py --dataset demo_images --change "$(CHANGE)"

test: $(INSTALLED)-dev
	@$(RUN) -m pytest -m "not slow"

test-all: $(INSTALLED)-dev
	@$(RUN) -m pytest -m slow

torture: $(INSTALLED)-dev
	@$(RUN) -m pytest tests/torture --torture

lint: $(INSTALLED)-dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(INSTALLED)
	@PYTHONPATH=. $(RUN) benchmarks/report.py

gpu: $(INSTALLED)-dev
	@$(RUN) -m pytest -m gpu --numprocesses 0
	@PYTHONPATH=. $(RUN) benchmarks/report.py --gpu

lock: $(INSTALLED)
	@$(INSTALL) uv
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --annotation-style line \
		--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
		requirements-dev.txt --output-file requirements.lock

clean:
	rm -rf $(VENV) demo_music demo_images
