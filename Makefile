# The two commands are `make demo` and `make test`; each first installs what is missing.
# Everything else is for people who change navmap.  `make help` lists it.

VENV := $(CURDIR)/.venv
PYTHON_VENV := $(VENV)/bin/python
export PATH := $(VENV)/bin:$(PATH)
# A virtual environment that happens to be active must not leak into ours.
unexport PYTHONHOME PYTHONPATH

BUILD := build
MESON_SETUP := meson setup -Dtests=enabled

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: package ## create, fill, share and reopen an index of 20,000 word vectors, in under a minute
	@$(PYTHON_VENV) tools/demo.py

.PHONY: test
test: build package ## every test in its quick form, C and Python
	@$(PYTHON_VENV) tests/run.py $(BUILD) --python

.PHONY: torture-ci
torture-ci: build package hnswlib ## kill, power-cut and race tests as long as CI runs them
	@$(PYTHON_VENV) tests/run.py $(BUILD) $(CI_SUITES) --differential ci
CI_SUITES := --suite torture-ci --suite race-ci --suite model-ci --suite recall-ci --suite fuzz-ci

.PHONY: torture
torture: build package hnswlib mutants ## the same for hours, and the mutants
	@$(PYTHON_VENV) tests/run.py $(BUILD) $(CI_SUITES:%-ci=%-long) --differential long

# make mutants ONLY="k2-late o3-read-txn": those only.
.PHONY: mutants
mutants: bootstrap ## leave out one sync, order or check after the other: a test must notice
	@$(PYTHON_VENV) tests/mutants/run.py build-mutants $(ONLY:%=--only %)

.PHONY: coverage
coverage: bootstrap ## branches of commit, apply, checkpoint, open and recovery that no test takes
	@$(PYTHON_VENV) tests/coverage.py build-coverage

.PHONY: asan
asan: bootstrap ## every test in short form under the address and undefined-behaviour sanitizers
	@tests/sanitized.sh address,undefined build-asan

.PHONY: tsan
tsan: bootstrap ## every C test in short form under the thread sanitizer, and those of threads in Python
	@tests/sanitized.sh thread build-tsan

# make fuzz TARGET=sealed SECONDS=300 SEED=1; without TARGET all of them, one after the other.
.PHONY: fuzz
fuzz: bootstrap ## fuzz what a file may hold, with libFuzzer; options TARGET, SECONDS and SEED
	@tests/fuzz.sh build-fuzz "$(or $(TARGET),all)" "$(or $(SECONDS),60)" "$(or $(SEED),1)"

.PHONY: arm
arm: bootstrap ## cross-compile for AArch64 and run kernel, format and unit tests under qemu
	@tests/arm.sh build-arm || [ $$? -eq 77 ]

.PHONY: lint
lint: build ## layers, forbidden calls, file sizes, header self-containment, layout
	@$(PYTHON_VENV) tests/run.py $(BUILD) --suite lint

.PHONY: format
format: ## rewrite the C files with clang-format
	@find engine storage tools bindings tests \( -name '*.[ch]' -o -name '*.inc' \) -exec clang-format -i {} +

.PHONY: tidy
tidy: build ## clang-tidy over the library
	@clang-tidy -p $(BUILD) --quiet $$(find engine storage tools -name '*.c')

# Nothing needs it: where it is not there, navmap is compared with a model of it only.
.PHONY: hnswlib
hnswlib: bootstrap ## hnswlib in .venv, to compare with it; takes a C++ compiler, and may fail
	@$(PYTHON_VENV) -c 'import hnswlib' 2>/dev/null || { \
	    echo "installing hnswlib, to compare with it"; \
	    $(PYTHON_VENV) -m pip install --quiet --disable-pip-version-check --no-binary hnswlib \
	        hnswlib==0.8.0 || \
	    echo "hnswlib could not be installed: going on without it"; }

.PHONY: wheel
wheel: bootstrap ## a wheel in dist/
	@$(PYTHON_VENV) -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

.PHONY: clean
clean: ## remove what was built, keep .venv
	rm -rf build build-asan build-tsan build-arm build-fuzz build-mutants build-coverage dist

.PHONY: bootstrap
bootstrap:
	@tools/bootstrap.sh

.PHONY: build
build: bootstrap
	@[ -f $(BUILD)/build.ninja ] || $(MESON_SETUP) $(BUILD)
	@ninja -C $(BUILD) --quiet

# The package in .venv as `pip install .` leaves it, with the objects kept for the next time.
.PHONY: package
package: bootstrap
	@echo "building the Python package"
	@$(PYTHON_VENV) -m pip install --quiet --disable-pip-version-check --no-deps \
	    --no-build-isolation --force-reinstall --config-settings=build-dir=$(BUILD)/wheel .
