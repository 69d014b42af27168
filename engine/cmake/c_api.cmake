# The C library: a shared and a static one of the same objects, and what finds them (CMake package, pkg-config).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(onebit_c_objects OBJECT
  engine/src/c_api.cpp
  engine/src/c_api_guard.cpp
  engine/src/c_api_model.cpp
  engine/src/c_api_text.cpp
  engine/src/model_file.cpp
  engine/src/nested_models.cpp)
target_link_libraries(onebit_c_objects PRIVATE onebit_engine)
target_include_directories(onebit_c_objects PRIVATE engine/include)
target_compile_definitions(onebit_c_objects PRIVATE ONEBIT_VERSION="${PROJECT_VERSION}")
target_compile_options(onebit_c_objects PRIVATE $<IF:$<BOOL:${EMSCRIPTEN}>,-Oz,-O2> -Wall -Wextra -Wpedantic -Wshadow)

set(objects $<TARGET_OBJECTS:onebit_c_objects> $<TARGET_OBJECTS:onebit_engine>)
add_library(onebit_static STATIC ${objects})
set_target_properties(onebit_static PROPERTIES OUTPUT_NAME onebit EXPORT_NAME static)
set(libraries onebit_static)
# WebAssembly has no shared libraries.
get_property(shared_libraries GLOBAL PROPERTY TARGET_SUPPORTS_SHARED_LIBS)
if(shared_libraries)
  add_library(onebit SHARED ${objects})
  list(PREPEND libraries onebit)
  # Before version 1 the minor version may change what a program was compiled against.
  set_target_properties(onebit PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endif()
foreach(library ${libraries})
  target_include_directories(${library} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/engine/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${library} PRIVATE Threads::Threads)
  if(ONEBIT_SANITIZE)
    target_link_options(${library} PUBLIC $<BUILD_INTERFACE:-fsanitize=${ONEBIT_SANITIZE}>)
  endif()
endforeach()
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # Hidden visibility does not reach the standard library's templates, which would go out as weak symbols.
  target_link_options(onebit PRIVATE "LINKER:--version-script=${PROJECT_SOURCE_DIR}/engine/cmake/onebit.map")
  set_target_properties(onebit PROPERTIES LINK_DEPENDS "${PROJECT_SOURCE_DIR}/engine/cmake/onebit.map")
endif()
# A C program that links the static library needs what a C++ compiler would have added.
set(cxx_runtime ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER cxx_runtime INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi|m)$")
list(REMOVE_DUPLICATES cxx_runtime)
target_link_libraries(onebit_static INTERFACE ${cxx_runtime})

install(TARGETS ${libraries} EXPORT onebit
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT c_api NAMELINK_COMPONENT c_api
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT c_api)
install(FILES engine/include/onebit/onebit.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/onebit COMPONENT c_api)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/onebit)
install(EXPORT onebit NAMESPACE onebit:: FILE onebitTargets.cmake DESTINATION ${package} COMPONENT c_api)
configure_package_config_file(engine/cmake/onebitConfig.cmake.in onebitConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(onebitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/onebitConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/onebitConfigVersion.cmake
  DESTINATION ${package} COMPONENT c_api)

list(TRANSFORM cxx_runtime PREPEND "-l" OUTPUT_VARIABLE private_libraries)
list(JOIN private_libraries " " private_libraries)
# The prefix is found from where the file lies, so that an installed tree can be moved.
file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(engine/cmake/onebit.pc.in onebit.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/onebit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT c_api)
