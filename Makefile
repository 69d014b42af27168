# Two commands for a fresh machine with Python, gcc and make:
#   make demo    train, pack and run a 1-bit network, about two minutes
#   make test    everything that is checked before a change lands
# Each makes its own virtual environment in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find src engine -type f -not -name '*.so' -not -name '*.pyc')

.PHONY: demo test lint engine-test engine-test-arm engine-test-sanitizers fuzz differential clean

demo: $(VENV)/installed-train
	$(BIN)/onebit demo

test: $(VENV)/installed-dev lint engine-test
	$(BIN)/pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find engine examples -name '*.cpp' -o -name '*.h' -o -name '*.c' | xargs $(BIN)/clang-format --dry-run --Werror

engine-test: $(VENV)/installed-dev
	$(BIN)/cmake -S . -B build/engine -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DCMAKE_BUILD_TYPE=Release \
	    -DONEBIT_BUILD_TESTS=ON -DONEBIT_BUILD_PYTHON=OFF
	$(BIN)/cmake --build build/engine
	$(BIN)/ctest --test-dir build/engine --output-on-failure

# The same with the compiler's checks of memory, of undefined behaviour and of threads.
engine-test-sanitizers: $(VENV)/installed-dev
	for checks in address,undefined thread; do \
	    $(BIN)/cmake -S . -B build/engine-$$checks -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DCMAKE_BUILD_TYPE=Release \
	        -DONEBIT_BUILD_TESTS=ON -DONEBIT_BUILD_PYTHON=OFF -DONEBIT_SANITIZE=$$checks && \
	    $(BIN)/cmake --build build/engine-$$checks && \
	    $(BIN)/ctest --test-dir build/engine-$$checks --output-on-failure || exit 1; \
	done

# The same for 64-bit Arm on any Linux machine that has Debian's g++-aarch64-linux-gnu and qemu-user.
engine-test-arm: $(VENV)/installed-dev
	$(BIN)/cmake -S . -B build/engine-arm -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DCMAKE_BUILD_TYPE=Release \
	    -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DONEBIT_BUILD_TESTS=ON -DONEBIT_BUILD_PYTHON=OFF
	$(BIN)/cmake --build build/engine-arm
	$(BIN)/ctest --test-dir build/engine-arm --output-on-failure

# Mutated files through the loader of the C library, under clang's checks of memory and of undefined behaviour: make fuzz RUNS=100000 JOBS=1, or
# RUNS=0 SECONDS=60. docs/testing.md tells of both commands.
fuzz: $(VENV)/installed-dev
	$(BIN)/python engine/fuzz/fuzz.py $(if $(RUNS),--runs $(RUNS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JOBS),--jobs $(JOBS))

# Random programs in the NumPy reference and with every instruction set of this machine: make differential COUNT=1000 SEED=5 ISAS=scalar,avx2.
differential: $(VENV)/installed-dev
	$(BIN)/python tests/differential/differential.py $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(if $(ISAS),--isas $(ISAS)) $(if $(JOBS),--jobs $(JOBS))

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed-train: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[train]"
	touch $@

$(VENV)/installed-dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[train,dev]"
	touch $@

clean:
	rm -rf $(VENV) build onebit-demo
