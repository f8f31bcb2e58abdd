# Everything runs from a fresh clone with python3 and make; .venv is made once.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: test check coverage docs demo bench bench-training bench-decisions bench-frames torture clean

# As many files of tests at a time as there are cores.
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: check
	$(BIN)/python $(PYTEST)

# The type checker gets one package, laid out as it is installed (see pyproject.toml).
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .typings && mkdir -p .typings/siamese_index
	ln -s $(CURDIR)/siamese_index/* $(CURDIR)/cli $(CURDIR)/training .typings/siamese_index/
	cd .typings && ../$(BIN)/mypy --config-file ../pyproject.toml -p siamese_index

# Branches, also in the processes that the tests start. It takes half as long again as the tests.
coverage: .venv/installed
	rm -f .coverage .coverage.* coverage.json
	$(BIN)/python -m coverage run $(PYTEST)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage json --quiet -o coverage.json
	$(BIN)/python -m tests.coverage_floor

# The site, in docs/_build/html. Pages that are made from the program are written first.
docs: .venv/installed
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Look at it:  docs/_build/html/index.html"

demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/sidx demo --folder $(DEMO)

# Slow proofs; their figures stand in the README.
bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hnswlib usearch
	$(BIN)/python -m benchmarks.speed $(PART)

bench-training: .venv/installed
	$(BIN)/python -m benchmarks.training $(PART)

bench-decisions: .venv/installed
	$(BIN)/python -m benchmarks.decisions $(PART)

bench-frames: .venv/installed
	OPENCV_LOG_LEVEL=SILENT $(BIN)/python -m benchmarks.frames $(PART)

torture: .venv/installed
	$(BIN)/python -m tests.mutants --count 3000
	$(BIN)/python -m tests.torture --all

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train-cpu,postgres,dask,docs,dev]"
	touch $@

clean:
	rm -rf .venv .typings build dist *.egg-info
