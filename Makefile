# Everything runs from a fresh clone with python3 and make; .venv is made once.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: test test-headless check coverage docs demo bench bench-training bench-decisions bench-frames bench-loop bench-service torture sbom release clean

# As many files of tests at a time as there are cores.
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: check
	$(BIN)/python $(PYTEST)
	$(MAKE) --no-print-directory test-headless

# What touches pictures, with the oldest OpenCV that will do, in the variant without windows.
HEADLESS := opencv-python-headless==4.12.0.88
test-headless: .venv/headless
	PYTHONPATH=.venv/headless $(BIN)/python $(PYTEST) tests/samples/test_images.py tests/samples/test_folders.py \
	  tests/samples/test_sources.py tests/samples/test_video.py -k "not gallery"

# The type checker gets one package, laid out as it is installed (see pyproject.toml).
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .typings && mkdir -p .typings/siamese_index
	ln -s $(CURDIR)/siamese_index/* $(CURDIR)/cli $(CURDIR)/training $(CURDIR)/server .typings/siamese_index/
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

bench-loop: .venv/installed
	$(BIN)/python -m benchmarks.loop

bench-service: .venv/installed
	$(BIN)/python -m benchmarks.service $(PART)

torture: .venv/installed
	$(BIN)/python -m tests.mutants --count 3000
	$(BIN)/python -m tests.together --threads 8 --calls 1000 --processes 6 --seconds 60
	$(BIN)/python -m tests.histories --histories 500 --purges 1000
	$(BIN)/python -m tests.server.kills --kills 1000
	$(BIN)/python -m tests.torture --all

# A release, but for the upload: what would be uploaded is in dist, whole and checked, and was installed once.
RELEASE := .venv/release
release: sbom
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz
	cd dist && sha256sum siamese_index-* *.cdx.json > SHA256SUMS
	@echo "Nothing was uploaded. It would be:  twine upload dist/*.whl dist/*.tar.gz"

# What an installed wheel consists of, as CycloneDX.
sbom: .venv/installed
	rm -rf dist $(RELEASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build cyclonedx-bom twine
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && ../$(RELEASE)/bin/sidx --version
	$(BIN)/cyclonedx-py environment $(RELEASE)/bin/python --pyproject pyproject.toml --mc-type library --output-reproducible -o dist/siamese-index.cdx.json

.venv/headless: .venv/installed
	rm -rf $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ $(HEADLESS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train-cpu,postgres,dask,serve,docs,dev]"
	touch $@

clean:
	rm -rf .venv .typings build dist *.egg-info
