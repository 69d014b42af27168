# The engine for web pages: onebit.wasm, with the functions of the C API that web/onebit.js calls. Nothing of emscripten's JavaScript is needed.
set(web_functions
  onebit_isas onebit_last_error onebit_load_memory onebit_free onebit_describe onebit_run_pixels onebit_run_floats onebit_token_bytes
  onebit_token_id onebit_encode onebit_decode onebit_sequence_open onebit_sequence_close onebit_sequence_feed onebit_sequence_cut
  onebit_sequence_length onebit_generate_next onebit_version malloc free)
list(TRANSFORM web_functions PREPEND "_")
list(JOIN web_functions "," web_functions)
add_library(onebit_page_cpu OBJECT engine/src/cpu.cpp engine/src/page_printf.cpp)
target_link_libraries(onebit_page_cpu PRIVATE onebit_engine)
target_compile_definitions(onebit_page_cpu PRIVATE ONEBIT_PAGE)
add_executable(onebit_web $<TARGET_OBJECTS:onebit_c_objects> $<TARGET_OBJECTS:onebit_page_cpu>
  "$<FILTER:$<TARGET_OBJECTS:onebit_engine>,EXCLUDE,/cpu\\.cpp>")
set_target_properties(onebit_web PROPERTIES OUTPUT_NAME onebit SUFFIX .wasm)
target_link_options(onebit_web PRIVATE -Oz --no-entry -sMALLOC=emmalloc -sSTANDALONE_WASM -sEXPORTED_FUNCTIONS=${web_functions})
