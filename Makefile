# Two commands from a fresh clone: `make demo` and `make test`.
# They need Python 3.10 or later with pip; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs audit lock clean

demo: $(VENV)/demo.ready
	$(BIN)/python run_eval.py

test: $(VENV)/test.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/test.ready docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	git ls-files >/dev/null && git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify $(INVENTED)

# The documentation as a site in build/site; a link that leads nowhere is an error. Material for MkDocs advertises its
# successor on every call.
docs: $(VENV)/test.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# What detect-secrets takes for a secret and is none: digests, locks, and what tests plant. A line that it is wrong
# about elsewhere ends in "pragma: allowlist secret".
INVENTED := --disable-plugin HexHighEntropyString --exclude-files '^requirements/' \
	--exclude-secrets '^(pass|hidden|another|sk-test|sk-very-secret-.*|.*planted.*)$$'

# Known weaknesses of what is locked. It asks a service on the network for each package, so it is no part of check; a
# package that nobody there knows is an error, not a pass.
audit: $(VENV)/test.ready
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements/test.txt

# The newest versions, with the digests of their files, for all platforms: what make installs, here and in CI.
LOCK = $(UV) compile --quiet --upgrade --universal --python-version 3.10 --prerelease disallow --generate-hashes \
	--no-header --no-annotate
lock: $(VENV)/test.ready
	echo uv | $(LOCK) - -o requirements/uv.txt
	$(LOCK) pyproject.toml --extra test -o requirements/test.txt
	$(LOCK) pyproject.toml --constraint requirements/test.txt -o requirements/demo.txt

# uv installs what pip would, many times faster, by the system's certificates, since a network may have its own; where it
# cannot (it does not read pip's configuration), pip does. A machine may have rules of its own about versions, which pip
# keeps: then without the lock.
define install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt || true
	$(UV) install --quiet --require-hashes -r $(1) || $(BIN)/python -m pip install --quiet --require-hashes -r $(1) || \
		{ echo "The locked versions cannot be had here; the newest that can are installed instead." >&2; \
		$(BIN)/python -m pip install --quiet -e "$(2)"; }
	$(UV) install --quiet $(ITSELF) || $(BIN)/python -m pip install $(ITSELF)
endef
UV = VIRTUAL_ENV=$(abspath $(VENV)) UV_SYSTEM_CERTS=true $(BIN)/uv pip
ITSELF := --no-deps --no-build-isolation --editable .

$(VENV)/demo.ready: pyproject.toml requirements/uv.txt requirements/demo.txt
	$(call install,requirements/demo.txt,.)
	touch $@

$(VENV)/test.ready: pyproject.toml requirements/uv.txt requirements/test.txt
	$(call install,requirements/test.txt,.[test])
	touch $@ $(VENV)/demo.ready

clean:
	rm -rf $(VENV) build *.egg-info
