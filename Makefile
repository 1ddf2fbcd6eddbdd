# Two commands from a fresh clone: `make demo` and `make test`.
# They need Python 3.10 or later with pip; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check clean

demo: $(VENV)/demo.ready
	$(BIN)/python run_eval.py

test: $(VENV)/test.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# uv installs what pip would, many times faster; where it cannot (it does not read pip's own configuration),
# pip does.
define install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet -e "$(1)" || $(BIN)/python -m pip install -e "$(1)"
endef

$(VENV)/demo.ready: pyproject.toml
	$(call install,.)
	touch $@

$(VENV)/test.ready: pyproject.toml
	$(call install,.[test])
	touch $@ $(VENV)/demo.ready

clean:
	rm -rf $(VENV) build *.egg-info
