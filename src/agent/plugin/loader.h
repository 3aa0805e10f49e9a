// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/python_host.h"

namespace sma::plugin {

/// Loads plugins by name. They remain loaded until the program ends.
class Loader {
 public:
  /// `catalog` receives the factories of plugins and must outlive the loader. `plugin_dir` is the
  /// folder that is searched for shared libraries by name; if it is empty, DefaultPluginDir() is
  /// searched.
  Loader(Catalog& catalog, std::string plugin_dir);

  /// Loads `name`, which is the path of a shared library (if it contains a slash), the name of a
  /// shared library in the plugin folder (NAME.so), or otherwise a Python module. An error says why
  /// it cannot be loaded.
  absl::Status Load(const std::string& name);

  /// Tells Python plugins which crypto engine the agent uses. Does nothing if there are no such
  /// plugins.
  void UseCryptoEngine(const std::string& name);

  /// Returns true if threads of a Python interpreter may be running.
  bool has_python() const { return python_ != nullptr; }

  /// Returns the path `../lib/sma/plugins` relative to the folder of the program's executable.
  static std::string DefaultPluginDir();

 private:
  absl::Status LoadNative(const std::string& path);
  absl::Status LoadPython(const std::string& module);

  Catalog& catalog_;
  const std::string plugin_dir_;
  const PythonHost* python_ = nullptr;
};

}  // namespace sma::plugin
