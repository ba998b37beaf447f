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

.PHONY: demo test lint docs accessibility release-check container-check clean

demo: $(VENV)/.installed
	$(BIN)/clmorph demo -o demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint,experiments]'
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# every block of the tutorials is run, then the site is built, without the network; any warning fails
docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/make.py tutorials
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html --fail-on-warning --keep-going --quiet docs docs/_build

# the built site and report pages by axe-core in Chromium; needs node, npm and Chromium
accessibility: docs demo
	$(BIN)/python docs/make.py accessibility docs/_build demo/report.html

# wheel and sdist into dist/, installed in a fresh environment, the demo run from it
release-check: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	$(BIN)/python .ci/release_check.py

# the steps of the Dockerfile, in a folder in place of the image, without a container engine
container-check:
	$(PYTHON) .ci/container_check.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(DEEPBET)
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist docs/_build docs/generated *.egg-info
