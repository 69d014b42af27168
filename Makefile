# Three commands for a fresh machine with Python, gcc and make:
#   make demo    train, pack and run a 1-bit network, a minute after installing
#   make test    everything that is checked before a change lands
#   make docs    the documentation site, in build/docs; its notebooks train for a minute or two
# Each makes its own virtual environment in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find src engine -type f -not -name '*.so' -not -name '*.pyc' -not -path 'src/onebit/web/*')

# The compiler, where one is named, and what the folders of its builds are called after.
ifneq ($(TOOLCHAIN),)
    SUFFIX        := -$(TOOLCHAIN)
    COMPILER_FLAG := -DCMAKE_TOOLCHAIN_FILE=cmake/$(TOOLCHAIN).cmake $(if $(filter zig,$(TOOLCHAIN)),-DONEBIT_ZIG_PYTHON=$(abspath $(BIN))/python)
else ifneq ($(origin CXX),default)
    SUFFIX        := -$(notdir $(CXX))
    COMPILER_FLAG := -DCMAKE_CXX_COMPILER=$(CXX)
endif
ENGINE_BUILD := build/engine$(SUFFIX)$(addprefix -,$(SANITIZE))
CONFIGURE     = $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_BUILD_TYPE=Release $(COMPILER_FLAG) $(CMAKE_FLAGS)
# Empty where BIN has cmake, ninja and the rest already: make engine-test BIN=/usr/bin INSTALLED=
INSTALLED    ?= $(VENV)/installed-dev

# How many processes share the tests. A file's tests stay together.
PYTEST_PROCESSES ?= 2

.PHONY: demo test docs lint engine-test engine-test-arm engine-test-32 engine-test-sanitizers wasm wasm-test module-test module-folder matrix fuzz differential wheels serve-test gpu-test fpga-test tidy clean mcu-test

demo: $(VENV)/installed-train
	$(BIN)/onebit demo

test: $(VENV)/installed-dev lint engine-test
	$(BIN)/pytest --numprocesses $(PYTEST_PROCESSES) --dist loadfile

# Every notebook runs, and a warning of any kind ends the build with an error. Open build/docs/index.html.
# Where emscripten and node are, the front page has models that run in it.
docs: $(VENV)/installed-docs
ifneq ($(and $(shell command -v em++),$(shell command -v node)),)
	$(MAKE) wasm
endif
	$(BIN)/sphinx-build -b html -c docs -d build/doctrees -j auto -W --keep-going -q . build/docs

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find engine examples -name '*.cpp' -o -name '*.h' -o -name '*.c' | xargs $(BIN)/clang-format --dry-run --Werror

# Networks of signs in hls4ml's C simulation and through FINN+'s streamlining, in an environment of its own: docs/fpga.md. It needs g++.
FPGA := .venv-fpga
fpga-test: $(FPGA)/installed
	PYTHONPATH=src $(FPGA)/bin/python tools/fpga/make_networks.py build/fpga
	PYTHONPATH=src $(FPGA)/bin/python tools/fpga/hls4ml_check.py build/fpga/dense.onebit --out build/fpga/hls4ml-dense
	PYTHONPATH=src $(FPGA)/bin/python tools/fpga/hls4ml_check.py build/fpga/conv.onebit --out build/fpga/hls4ml-conv
	PYTHONPATH=src $(FPGA)/bin/python tools/fpga/finn_check.py build/fpga/dense.onebit
	PYTHONPATH=src $(FPGA)/bin/python tools/fpga/finn_check.py build/fpga/conv.onebit

# FINN+ pins versions that hls4ml does not take; streamlining works without them.
$(FPGA)/installed: tools/fpga/requirements.txt
	$(PYTHON) -m venv $(FPGA)
	$(FPGA)/bin/pip install --quiet --requirement tools/fpga/requirements.txt
	$(FPGA)/bin/pip install --quiet --no-deps finn-plus==1.6.1
	touch $@

# clang-tidy over the engine, by the checks of .clang-tidy: make tidy TIDY=engine/src/ops. It needs Debian's clang-19 and clang-tidy-19.
CLANG ?= 19
TIDY  ?= engine/src/
tidy: $(INSTALLED)
	$(CONFIGURE) -B build/tidy -DONEBIT_BUILD_PYTHON=OFF -DCMAKE_CXX_COMPILER=clang++-$(CLANG) -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
	run-clang-tidy-$(CLANG) -p build/tidy -quiet '$(TIDY)'

# The engine's own tests.
#   make engine-test                                    with the system's compiler
#   make engine-test CXX=clang++-19                     with another one; each has a build folder of its own
#   make engine-test TOOLCHAIN=zig                      with what a file of cmake/ says: zig (after .venv/bin/pip install ziglang), i686-linux-gnu,
#                                                       aarch64-linux-gnu
#   make engine-test SANITIZE=address,undefined         with the compiler's checks of memory and of undefined behaviour
engine-test: $(INSTALLED)
	$(CONFIGURE) -B $(ENGINE_BUILD) -DONEBIT_BUILD_TESTS=ON -DONEBIT_BUILD_PYTHON=OFF -DONEBIT_SANITIZE=$(SANITIZE)
	$(BIN)/cmake --build $(ENGINE_BUILD)
	$(BIN)/ctest --test-dir $(ENGINE_BUILD) --output-on-failure --parallel 2

engine-test-sanitizers:
	$(MAKE) engine-test SANITIZE=address,undefined
	$(MAKE) engine-test SANITIZE=thread

# The same for 64-bit Arm on any Linux machine that has Debian's g++-aarch64-linux-gnu and qemu-user.
engine-test-arm:
	$(MAKE) engine-test TOOLCHAIN=aarch64-linux-gnu

# The same for 32-bit x86, on one that has g++-12-multilib.
engine-test-32:
	$(MAKE) engine-test TOOLCHAIN=i686-linux-gnu

# The engine as WebAssembly, and the page, in build/web: a folder for any static server (python -m http.server -d build/web). What "onebit export web"
# needs of it goes into the package's folder too, and into wheels that are built afterwards. It needs Debian's emscripten, cmake, ninja and node.
WASM_CONFIGURE = $(CONFIGURE) -B build/wasm -DCMAKE_TOOLCHAIN_FILE=cmake/emscripten.cmake -DONEBIT_BUILD_PYTHON=OFF
WEB_FILES     := index.html page.js page.css pictures.js worker.js onebit.js onebit.d.ts package.json models.json icon.svg digits.onebit
EXPORTED      := index.html page.js page.css pictures.js worker.js onebit.js icon.svg LICENSE onebit.wasm
wasm: $(INSTALLED)
	$(WASM_CONFIGURE)
	$(BIN)/cmake --build build/wasm --target onebit_web
	mkdir -p build/web
	cp $(addprefix web/,$(WEB_FILES)) LICENSE src/onebit/pretrained/books-10m.onebit build/wasm/onebit.wasm build/web
	mkdir -p src/onebit/web
	cp $(addprefix build/web/,$(EXPORTED)) src/onebit/web

# All tests of both: the engine's own under node, onebit.js, the same answers as the package gives, and the page in Chromium (tests/web). It installs
# nothing, and skips what it does not find: emscripten or node (everything), tsc (node-typescript), npm, chromium, Python's playwright.
wasm-test: $(INSTALLED)
ifeq ($(and $(shell command -v em++),$(shell command -v node)),)
	@echo "skipped: make wasm-test needs emscripten and node"
else
	$(MAKE) wasm
	$(WASM_CONFIGURE) -DONEBIT_BUILD_TESTS=ON
	$(BIN)/cmake --build build/wasm
	$(BIN)/ctest --test-dir build/wasm --output-on-failure --parallel 2
	$(BIN)/pytest -rs tests/web
endif

# Exported C on emulated microcontrollers, and its instructions against tests/mcu/golden.json: make mcu-test INPUTS=1000, or REWRITE=1 to write that
# file anew. It skips what it does not find: Debian's gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm, and gcc-riscv64-unknown-elf
# picolibc-riscv64-unknown-elf qemu-system-misc.
mcu-test: $(INSTALLED)
	ONEBIT_MCU_INPUTS=$(or $(INPUTS),100) ONEBIT_MCU_REWRITE=$(REWRITE) $(BIN)/pytest -rs tests/mcu tests/exports/test_c.py

# The Python module by a compiler that is named as for engine-test, for a Python that has the packages of the extra "dev", and the tests of what
# computes with it:
#   make module-test CXX=clang++-19 MODULE_PYTHON=/opt/python3.12/bin/python
# The package with this module lies in $(MODULE_BUILD)/package; the installed one stays as it is.
MODULE_PYTHON ?= $(BIN)/python
MODULE_TESTS  ?= tests/engine tests/runtime tests/packing
MODULE_BUILD   = build/module$(SUFFIX)-$(shell $(MODULE_PYTHON) -c "import sys; print('py%d%d' % sys.version_info[:2])")
module-test: $(INSTALLED)
	$(CONFIGURE) -B $(MODULE_BUILD) -DONEBIT_BUILD_PYTHON=ON -DPython_EXECUTABLE=$(abspath $(MODULE_PYTHON))
	$(BIN)/cmake --build $(MODULE_BUILD)
	rm -rf $(MODULE_BUILD)/package && mkdir -p $(MODULE_BUILD)/package && cp -r src/onebit $(MODULE_BUILD)/package
	rm -f $(MODULE_BUILD)/package/onebit/_engine*.so
	$(BIN)/cmake --install $(MODULE_BUILD) --prefix $(MODULE_BUILD)/package
	PYTHONPATH=$(CURDIR)/$(MODULE_BUILD)/package $(MODULE_PYTHON) -m pytest $(MODULE_TESTS)
module-folder:
	@echo $(MODULE_BUILD)

# Both of them for each compiler and each Python of this machine, written down in docs/matrix.md: make matrix COMPILERS="g++-12 clang++-19 zig"
# PYTHONS=".venv/bin/python .venv-3.12/bin/python". Every Python needs the packages of the extras "train" and "dev".
COMPILERS ?= $(CXX)
PYTHONS   ?= $(BIN)/python
matrix: $(INSTALLED)
	$(BIN)/python tests/matrix.py --compilers $(COMPILERS) --pythons $(PYTHONS) --sets --record

# Mutated files through the loader of the C library, under clang's checks of memory and of undefined behaviour: make fuzz RUNS=100000 JOBS=1, or
# RUNS=0 SECONDS=60. docs/testing.md tells of both commands.
fuzz: $(VENV)/installed-dev
	$(BIN)/python engine/fuzz/fuzz.py $(if $(RUNS),--runs $(RUNS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(JOBS),--jobs $(JOBS))

# Random programs in the NumPy reference and with every instruction set of this machine: make differential COUNT=1000 SEED=5 ISAS=scalar,avx2.
differential: $(VENV)/installed-dev
	$(BIN)/python tests/differential/differential.py $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(if $(ISAS),--isas $(ISAS)) $(if $(JOBS),--jobs $(JOBS))

# The wheels and the source distribution into dist/, each built, checked and run: make wheels WHEELS="--compilers zig --machines x86_64 --pythons 3.12".
# tools/wheels.py tells what that needs and what it skips.
wheels: $(VENV)/installed-dev
	$(BIN)/python tools/wheels.py $(WHEELS)

# The server with OpenAI's and LangChain's clients, its page in Debian's chromium, and a load of a minute: make serve-test. Without chromium the tests
# of the page are skipped, and say so.
serve-test: $(VENV)/installed-dev $(VENV)/installed-serve-test
	$(BIN)/pytest tests/serving -rs --numprocesses $(PYTEST_PROCESSES) --dist loadfile
	$(BIN)/python benchmarks/serving.py --short

# The kernels for GPUs, in Triton's interpreter where there is none. Triton lies in a folder of its own: elsewhere it would change what PyTorch compiles
# with.
gpu-test: $(VENV)/installed-dev
	[ -d build/triton ] || $(BIN)/python -m pip install --quiet --no-deps -c constraints.txt --target build/triton triton
	PYTHONPATH=$(CURDIR)/build/triton $(BIN)/pytest -rs tests/gpu

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed-train: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[train]"
	touch $@

$(VENV)/installed-dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[train,dev]"
	touch $@

$(VENV)/installed-serve-test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[serve-test]"
	touch $@

$(VENV)/installed-docs: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet -c constraints.txt ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build onebit-demo src/onebit/web
