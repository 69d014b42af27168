# The fuzzer of the loader. It needs clang with libFuzzer, and all code built so that libFuzzer sees which branches a file takes:
# engine/fuzz/fuzz.py knows the flags, builds it and runs it.
option(ONEBIT_BUILD_FUZZER "Build the fuzzer of the loader" OFF)
if(ONEBIT_BUILD_FUZZER)
  add_executable(fuzz_load engine/fuzz/fuzz_load.cpp engine/fuzz/model_text.cpp engine/fuzz/mutate.cpp engine/fuzz/repair.cpp)
  target_include_directories(fuzz_load PRIVATE engine/include)
  target_link_libraries(fuzz_load PRIVATE onebit_static onebit_engine)
  target_compile_options(fuzz_load PRIVATE -O2 -Wall -Wextra -Wpedantic -Wshadow)
  target_link_options(fuzz_load PRIVATE -fsanitize=fuzzer)
endif()
