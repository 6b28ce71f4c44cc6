# make demo   real images -> trained ResNet-18 -> verified artifacts -> one table
# make wheel  the package as one file, to install anywhere, and its runtime without TensorFlow as another
# make test   the tests;  make test-slow: the longer ones too;  make check: what CI runs
# make docs   the documentation site, in build/site
# make browser  what the tests of pages need beside Python: Chromium where apt and root are, and ONNX Runtime Web
# make attack hostile inputs, mutated files, planted faults, kills: two to three hours, with the figures by kind

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Quiet twice: its errors are shown, and its warnings are not. Those are about the machine's own settings, such as a folder
# of packages that is named in pip's configuration and is not there. Modules are compiled when they are first imported:
# most of the many thousand never are.
INSTALL = $(BIN)/python -m pip install --quiet --quiet --no-compile --disable-pip-version-check
# Two processes, a file of tests to each, the long ones not last: much of a test is tracing, which takes one core. A
# process that crashes is not replaced: with a new one, pytest-xdist 3.8 waits for ever after the last test.
PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# By environment, for pip builds this package in an environment of its own, which --constraint does not reach. From
# 25.3 on, pip takes the second name for it; earlier ones leave it unread.
export PIP_CONSTRAINT = constraints.txt
export PIP_BUILD_CONSTRAINT = constraints.txt

.PHONY: demo wheel docs test test-slow check attack lint environment browser lock clean

demo: $(VENV)/.demo
	$(BIN)/keras-resnet demo --out runs/demo

# A folder that an earlier build left would go into the wheel, with files that are no longer there.
wheel: $(VENV)/.created
	rm -rf build runtime/build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./runtime
	@ls dist/*.whl

# The variable hides an advertisement, which MkDocs' theme prints.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/mkdocs build --quiet --strict
	@echo "written: build/site; to read it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000"

test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: test lint

attack: $(VENV)/.dev
	$(BIN)/python checks/attack.py

# The CPU with its instruction sets, and the versions of Python and of the packages.
environment: $(VENV)/.dev
	$(BIN)/python -m keras_resnet.environment

# Without one of the two, the tests that need it are skipped, and name it.
browser: $(VENV)/.dev $(VENV)/onnxruntime-web/dist
	command -v chromium || command -v google-chrome || \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium)

$(VENV)/onnxruntime-web/dist: keras_resnet/export/web_runtime.py | $(VENV)/.dev
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent $$(../bin/python -c 'from keras_resnet.export.web_runtime import PACKAGE as it; print(it)')
	cd $(@D) && tar xzf onnxruntime-web-*.tgz --strip-components 1 && rm onnxruntime-web-*.tgz
	@touch $@

# Each stamp says that the environment holds one set of extras, at the versions of constraints.txt.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

# A stamp, since Python is there before pip is: where there is no ensurepip, venv fails between the two.
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null
	@touch $@

# Resolves constraints.txt anew, for all supported Pythons at once.
lock: $(VENV)/.dev
	$(INSTALL) uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --extra dev --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build runtime/build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
