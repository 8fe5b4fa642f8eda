# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
TEST_VENV ?= .venv-test
# Windows keeps a virtual environment's programs elsewhere.
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: demo run test lint bench fuzz clean

demo: $(VENV)/.demo-installed
	$(VENV)/$(BIN)/facecam demo

run: $(VENV)/.demo-installed
	$(VENV)/$(BIN)/facecam run

# A file of tests stays with one worker, since what its tests share is made once. More than four workers want more memory than they save time.
# A worker that dies ends the run: pytest-xdist would wait for ever for its file.
test: lint
	$(TEST_VENV)/$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

lint: $(TEST_VENV)/.installed
	$(TEST_VENV)/$(BIN)/ruff check .
	$(TEST_VENV)/$(BIN)/ruff format --check .
	$(TEST_VENV)/$(BIN)/mypy

bench: $(TEST_VENV)/.installed
	$(TEST_VENV)/$(BIN)/python benchmarks/startup.py
	$(TEST_VENV)/$(BIN)/python benchmarks/label.py

# Minutes of hostile bytes: every fuzz target with many examples, then files through the commands.
fuzz: $(TEST_VENV)/.installed
	FACECAM_FUZZ=3000 $(TEST_VENV)/$(BIN)/python -m pytest tests/test_fuzz.py -q --timeout 0
	$(TEST_VENV)/$(BIN)/python -m fuzz.hostile --count 5000 --keep fuzz-found

$(VENV)/.demo-installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo]"
	touch $@

$(TEST_VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,train,eval,mqtt,encrypt,ray,large,dev]"
	touch $@

clean:
	rm -rf $(VENV) $(TEST_VENV) build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
