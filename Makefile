# Two commands: `make demo` and `make test`. Each makes its own environment in .venv from pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# torch before anything that depends on it: pip then keeps this build instead of looking for another one
TORCH = $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
# two files of it find the brain in a whole head; what it depends on is for its window and not needed
DEEPBET = $(shell sed -n 's/^\(deepbet==.*\)/\1/p' constraints.txt)
# the suite's volumes are tiny: more threads would only wait for each other
test: export OMP_NUM_THREADS = 1

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/clmorph demo -o demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint,experiments]'
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(DEEPBET)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
