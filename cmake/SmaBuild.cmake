# SPDX-License-Identifier: Apache-2.0
# Compiler settings and the few functions that every folder's CMakeLists.txt uses.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
add_compile_options(-pthread)  # for all or none: precompiled headers are for one set of options
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -gline-tables-only")

# With CMAKE_UNITY_BUILD (set by scripts/test; reduces the work to a third) this many sources of a folder are compiled together,
# so names in their unnamed namespaces must differ. A build without it checks that each file compiles alone.
set(CMAKE_UNITY_BUILD_BATCH_SIZE 12 CACHE STRING "Sources in one unit of a unity build")

set(SMA_SANITIZE "" CACHE STRING "Sanitizer: empty, address or thread")

# Prefix of each test's name, which distinguishes the tests of several builds in one run of ctest.
set(SMA_TEST_PREFIX "")

add_library(sma_warnings INTERFACE)
target_compile_options(sma_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(sma_warnings INTERFACE -Wthread-safety)
endif()
target_include_directories(sma_warnings INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)

if(SMA_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all
    -fsanitize=fuzzer-no-link -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  set(SMA_TEST_PREFIX "asan.")
elseif(SMA_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
  set(SMA_TEST_PREFIX "tsan.")
elseif(NOT SMA_SANITIZE STREQUAL "")
  message(FATAL_ERROR "SMA_SANITIZE must be empty, address or thread")
endif()
if(SMA_SANITIZE)
  add_compile_definitions(SMA_HOLD_POINTS)  # src/storage_target/reactor/hold_point.h
endif()

# What continuous integration has time for with sanitizers (scripts/test sets it): with AddressSanitizer all tests but
# those that say SLOW_BUILD, with ThreadSanitizer those that say THREADS.
option(SMA_QUICK "Fewer tests in builds with a sanitizer" OFF)
if(NOT SMA_SANITIZE)
  set(SMA_QUICK OFF)
endif()
# Builds the unit tests and fuzz targets, and only what they need.
add_custom_target(unit_tests)

# sma_add_folders(DIR...): adds each folder that has a CMakeLists.txt.
function(sma_add_folders)
  foreach(dir IN LISTS ARGN)
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/CMakeLists.txt)
      add_subdirectory(${dir})
    endif()
  endforeach()
endfunction()

# What is tested is optimised; GoogleTest's macros take long to be.
set(test_options -O0)

# Headers that nearly every unit of a unity build takes are parsed once for libraries, once for tests, instead of some
# hundred times. A build without unity does not use them, so it proves that each file includes what it needs.
option(SMA_PRECOMPILE_HEADERS "Parse the common headers once" ${CMAKE_UNITY_BUILD})
set(precompiled_headers <algorithm> <atomic> <chrono> <condition_variable> <filesystem> <functional> <map> <memory> <mutex>
  <optional> <span> <string> <thread> <unordered_map> <vector> <absl/container/flat_hash_map.h> <absl/status/statusor.h>
  <absl/strings/str_cat.h> <nlohmann/json.hpp> <spdlog/spdlog.h>)
# sma_precompile(TARGET KIND): the target is compiled with the headers of its kind: library or test.
function(sma_precompile target kind)
  if(NOT SMA_PRECOMPILE_HEADERS)
    return()
  endif()
  set(owner sma_precompiled_${kind})
  if(NOT TARGET ${owner})
    set(source ${CMAKE_BINARY_DIR}/${owner}.cc)
    file(GENERATE OUTPUT ${source} CONTENT "int main() {}\n")
    set(headers ${precompiled_headers})
    if(kind STREQUAL test)
      list(APPEND headers <gmock/gmock.h> <gtest/gtest.h>)
      add_executable(${owner} ${source})
      target_link_libraries(${owner} PRIVATE GTest::gmock)
      target_compile_options(${owner} PRIVATE ${test_options})
    else()
      add_library(${owner} STATIC ${source})
    endif()
    target_link_libraries(${owner} PRIVATE sma_warnings spdlog::spdlog nlohmann_json::nlohmann_json absl::statusor
      absl::flat_hash_map)
    target_precompile_headers(${owner} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
  # The compiler takes them only with the macros that they were parsed with.
  target_link_libraries(${target} PRIVATE spdlog::spdlog)
endfunction()

# sma_library(NAME SRCS a.cc... DEPS targets...): the one library of a folder, linked as sma::NAME.
function(sma_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(sma_${name} STATIC ${ARG_SRCS})
  add_library(sma::${name} ALIAS sma_${name})
  target_link_libraries(sma_${name} PUBLIC ${ARG_DEPS} PRIVATE sma_warnings)
  target_include_directories(sma_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
  sma_precompile(sma_${name} library)
endfunction()

# sma_test(NAME SRCS a_test.cc... DEPS targets... [LABELS l...] [TIMEOUT s] [THREADS] [SLOW_BUILD]): a GoogleTest
# program, one ctest entry that runs all of it. THREADS: threads meet in what it tests. SLOW_BUILD: it takes much to
# compile, and no bytes from outside are parsed in it.
function(sma_test name)
  cmake_parse_arguments(ARG "THREADS;SLOW_BUILD" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(SMA_QUICK AND ((SMA_SANITIZE STREQUAL "thread" AND NOT ARG_THREADS)
                    OR (SMA_SANITIZE STREQUAL "address" AND ARG_SLOW_BUILD)))
    # The target stays, for folders that set properties of it.
    add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SRCS})
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  add_dependencies(unit_tests ${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock_main sma_warnings)
  target_compile_options(${name} PRIVATE ${test_options})
  sma_precompile(${name} test)
  set(test ${SMA_TEST_PREFIX}${name})
  add_test(NAME ${test} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${test} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "unit;${ARG_LABELS}")
endfunction()

# sma_fuzz(NAME SRCS a_fuzz.cc DEPS targets... [CORPUS dir]): a libFuzzer program in the asan build, run for
# SMA_FUZZ_SECONDS by ctest; nothing in other builds.
set(SMA_FUZZ_SECONDS 2 CACHE STRING "How long ctest runs each fuzz target, in seconds")
function(sma_fuzz name)
  if(NOT SMA_SANITIZE STREQUAL "address")
    return()
  endif()
  cmake_parse_arguments(ARG "" "CORPUS" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  add_dependencies(unit_tests ${name})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sma_warnings)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(work ${CMAKE_CURRENT_BINARY_DIR}/${name}.corpus)
  file(MAKE_DIRECTORY ${work})
  set(test ${SMA_TEST_PREFIX}${name})
  add_test(NAME ${test} COMMAND ${name} -max_total_time=${SMA_FUZZ_SECONDS} -rss_limit_mb=2048 -timeout=10
    ${work} ${ARG_CORPUS})
  math(EXPR limit "${SMA_FUZZ_SECONDS} + 60")
  set_tests_properties(${test} PROPERTIES TIMEOUT ${limit} LABELS fuzz)
endfunction()
