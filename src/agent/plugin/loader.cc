// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/loader.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>

namespace sma::plugin {
namespace {

// Relative to the folder that contains the agent's executable.
constexpr std::string_view kPluginDir = "../lib/sma/plugins";
constexpr std::string_view kPythonHost = "../lib/sma/libsma_python.so";

std::string BesideProgram(std::string_view relative) {
  std::error_code error;
  std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path() / relative).lexically_normal().string();
}

// Returns the symbol `name` of a shared library. The library is never closed, because threads may
// be running in it.
absl::StatusOr<const void*> OpenSymbol(const std::string& path, const char* name, int scope) {
  void* library = dlopen(path.c_str(), RTLD_NOW | scope);
  if (library == nullptr) return absl::FailedPreconditionError(dlerror());
  const void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    return absl::FailedPreconditionError(
        fmt::format("{} is not a plugin: it has no symbol {}", path, name));
  }
  return symbol;
}

}  // namespace

Loader::Loader(Catalog& catalog, std::string plugin_dir)
    : catalog_(catalog),
      plugin_dir_(plugin_dir.empty() ? DefaultPluginDir() : std::move(plugin_dir)) {}

std::string Loader::DefaultPluginDir() { return BesideProgram(kPluginDir); }

absl::Status Loader::Load(const std::string& name) {
  if (name.find('/') != std::string::npos) return LoadNative(name);
  const std::string path = (std::filesystem::path(plugin_dir_) / (name + ".so")).string();
  std::error_code error;
  return std::filesystem::exists(path, error) ? LoadNative(path) : LoadPython(name);
}

absl::Status Loader::LoadNative(const std::string& path) {
  absl::StatusOr<const void*> symbol = OpenSymbol(path, "sma_plugin", RTLD_LOCAL);
  if (!symbol.ok()) return symbol.status();
  const auto* plugin = static_cast<const Plugin*>(*symbol);
  if (plugin->interface_version != kPluginInterfaceVersion) {
    return absl::FailedPreconditionError(fmt::format(
        "{} was built for version {} of the plugin interface, but this agent has version "
        "{}: rebuild it with this agent's headers",
        path, plugin->interface_version, kPluginInterfaceVersion));
  }
  catalog_.set_origin({.kind = Kind::kNative, .source = path});
  absl::Status status = plugin->load(catalog_);
  if (status.ok()) spdlog::info("plugin {}: loaded", path);
  return status;
}

absl::Status Loader::LoadPython(const std::string& module) {
  if (python_ == nullptr) {
    // Python's own extension modules need the interpreter's symbols to be global.
    absl::StatusOr<const void*> symbol =
        OpenSymbol(BesideProgram(kPythonHost), "sma_python_host", RTLD_GLOBAL);
    if (!symbol.ok()) {
      return absl::FailedPreconditionError(
          fmt::format("there is no {}/{}.so, and Python modules cannot be loaded: {}", plugin_dir_,
                      module, std::string(symbol.status().message())));
    }
    python_ = static_cast<const PythonHost*>(*symbol);
  }
  catalog_.set_origin({.kind = Kind::kPython, .source = module});
  absl::Status status = python_->load(catalog_, module);
  if (status.ok()) spdlog::info("plugin {}: imported", module);
  return status;
}

void Loader::UseCryptoEngine(const std::string& name) {
  if (python_ != nullptr) python_->use_crypto_engine(name);
}

}  // namespace sma::plugin
