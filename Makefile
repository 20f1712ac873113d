# Every target sets up what it needs, once, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
BENCH := .venv-bench/bin
# two cores shared by several threads of one small net are slower than one
export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow reference lint bench mnist pictures clean

demo: .venv/ready
	$(BIN)/daguerre demo --out runs/demo

test: lint
	$(BIN)/python -m pytest -q -n 2

slow: .venv/ready
	$(BIN)/python -m pytest -q -m slow

# networks with answers by other programs, in $$DAGUERRE_DATA/networks; skipped where there are none
reference: .venv/ready
	$(BIN)/python -m pytest -q -m reference

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: .venv-bench/ready
	$(BENCH)/python benchmarks/import_time.py
	$(BENCH)/python benchmarks/first_step.py
	$(BENCH)/python benchmarks/structure.py
	$(BENCH)/python benchmarks/chains.py
	$(BENCH)/python benchmarks/characters.py
	$(BENCH)/python benchmarks/reading.py
	$(BENCH)/python benchmarks/memory.py
	$(BENCH)/python benchmarks/vae_step.py
	$(BENCH)/python benchmarks/objectives.py
	$(BENCH)/python benchmarks/gradients.py

# a VAE of MNIST, in $$DAGUERRE_DATA/mnist, beside published figures; skipped where there is none
mnist: .venv/ready
	$(BIN)/python benchmarks/mnist.py

# docs/pictures, a page of models with their code, their pictures and their equations
pictures: .venv/ready
	$(BIN)/python docs/pictures.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-bench/ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/pip install --quiet --constraint constraints.txt --editable . --requirement benchmarks/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-bench runs
