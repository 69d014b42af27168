# zig's clang, which the Python package ziglang brings: a compiler for machines that have none, and for older C libraries than this machine's.
# ONEBIT_ZIG_PYTHON is a Python with ziglang (python3), ONEBIT_ZIG_TARGET what to build for, such as x86_64-linux-gnu.2.17.
# Without a target zig would compile all files for this very processor, and the choice at run time would have nothing left to choose.
if(NOT ONEBIT_ZIG_PYTHON)
  set(ONEBIT_ZIG_PYTHON python3)
endif()
if(NOT ONEBIT_ZIG_TARGET)
  execute_process(COMMAND uname -m OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE processor)
  set(ONEBIT_ZIG_TARGET ${processor}-linux-gnu)
endif()
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ONEBIT_ZIG_PYTHON ONEBIT_ZIG_TARGET)
set(CMAKE_CXX_COMPILER ${ONEBIT_ZIG_PYTHON} -m ziglang c++)
set(CMAKE_CXX_FLAGS_INIT "-target ${ONEBIT_ZIG_TARGET}")
