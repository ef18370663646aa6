# Two commands do everything on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?= smollm2
PORT ?= 8000
ASAN_TESTS := $(addprefix ../tests/ops/test_,native_bounds.py program.py attention.py attention_options.py attention_backward.py linear.py linear_int8.py linear_bf16.py gated_linear.py linear_i8.py logits.py)
NATIVE := CMakeLists.txt $(shell find csrc -type f)

.DEFAULT_GOAL := help
.PHONY: help serve test asan lint format bench bench-attention bench-techniques gpu peers compare compare-serve clients soak fuzz clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.installed ## Install, fetch the default model, serve it on 127.0.0.1:8000 (MODEL=name, PORT=number)
	$(BIN)/octavo pull $(MODEL)
	$(BIN)/octavo serve $(MODEL) --port $(PORT)

test: $(VENV)/.installed-dev lint ## Install, lint and run all tests
	$(BIN)/python -m pytest

# In an environment of its own, which borrows the packages of the other: an editable install would hide this build.
asan: $(VENV)/.installed-dev ## Test the native kernels under the address sanitizer
	$(PYTHON) -m venv build/asan
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$(build/asan/bin/python -c 'import site; print(site.getsitepackages()[0])')/packages.pth"
	build/asan/bin/python -m pip install -q --no-deps -C cmake.define.OCTAVO_SANITIZE=address -C build-dir=build/asan-native .
	cd build && ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libstdc++.so)" PYTHONPATH=../tests \
		asan/bin/python -m pytest --capture=no -p no:cacheprovider --rootdir .. -c ../pyproject.toml $(ASAN_TESTS)

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Sort imports and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed ## Measure this machine into bench/results and docs/performance.md
	$(BIN)/python bench/performance.py

bench-attention: $(VENV)/.installed ## Measure attention beside torch's into bench/results and docs/attention.md
	$(BIN)/python bench/attention.py --json bench/results/attention.json
	$(BIN)/python bench/attention.py --page

bench-techniques: $(VENV)/.installed ## Measure what each technique gains into bench/results and docs/techniques.md
	$(BIN)/octavo pull smollm2
	$(BIN)/python bench/techniques.py

gpu: $(VENV)/.installed-dev ## Check attention on this machine's NVIDIA GPU, and measure it into bench/results
	$(BIN)/python bench/gpu_attention.py
	$(BIN)/python bench/gpu_resources.py --json bench/results/gpu-resources.json

peers: $(VENV)/.installed ## Install the engines to compare with, and convert the models for them
	$(BIN)/octavo pull smollm2
	$(BIN)/octavo pull gemma3-270m
	$(BIN)/python bench/peers/install.py

compare: $(VENV)/.installed ## Measure Octavo beside its peers into bench/results and docs/comparison.md
	$(BIN)/python bench/compare.py $(COMPARE)

compare-serve: $(VENV)/.installed ## Measure Octavo's server beside its peers' into bench/results and docs/performance.md
	$(BIN)/python bench/compare_serve.py $(COMPARE_SERVE)

soak: $(VENV)/.installed-dev ## Hold the figures of reliability against a real server, half an hour of soak among them (an hour or more)
	$(BIN)/octavo pull smollm2
	$(BIN)/python bench/reliability/run.py --figures 1-8,13 --json bench/results/reliability.json

fuzz: $(VENV)/.installed-dev ## Bad requests, mutated model files, schemas and streams at full size
	$(BIN)/octavo pull smollm2
	$(BIN)/python bench/reliability/run.py --figures 9-12,14,15 --json bench/results/reliability.json

clients: $(VENV)/.installed-dev ## Run openai for Node, litellm and lm-eval against the default model, each installed under build/clients
	$(BIN)/octavo pull smollm2
	$(BIN)/python tests/clients/manual/run.py $(CLIENTS)

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build src/octavo/_native*.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(BIN)/python pyproject.toml $(NATIVE)
	$(BIN)/python -m pip install -e .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml $(NATIVE)
	$(BIN)/python -m pip install -e '.[test,lint]'
	touch $@ $(VENV)/.installed
