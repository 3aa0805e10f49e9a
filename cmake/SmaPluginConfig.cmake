# SPDX-License-Identifier: Apache-2.0
# Package SmaPlugin: what plugins of the Storage Management Agent are built with. sma_plugin(NAME SOURCE...) makes NAME.so.

include(CMakeFindDependencyMacro)
find_dependency(absl)
find_dependency(Protobuf)
find_dependency(nlohmann_json)

get_filename_component(_sma_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# What a plugin uses of the agent it finds in the program that opens it.
if(NOT TARGET Sma::plugin)
  add_library(Sma::plugin INTERFACE IMPORTED)
  target_compile_features(Sma::plugin INTERFACE cxx_std_20)
  target_include_directories(Sma::plugin INTERFACE ${_sma_prefix}/include/sma-agent)
  target_link_libraries(Sma::plugin INTERFACE
    absl::status absl::statusor nlohmann_json::nlohmann_json protobuf::libprotobuf)
endif()

function(sma_plugin name)
  add_library(${name} MODULE ${ARGN})
  set_target_properties(${name} PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden)
  target_link_libraries(${name} PRIVATE Sma::plugin)
endfunction()
