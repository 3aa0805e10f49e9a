#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/python_host.h"

namespace sma::plugin {

/// Loads plugins by name. What was loaded stays until the program ends.
class Loader {
 public:
  /// `catalog` takes what plugins bring and outlives the loader. `plugin_dir`: where shared
  /// libraries are looked for by name; empty: DefaultPluginDir().
  Loader(Catalog& catalog, std::string plugin_dir);

  /// `name`: the path of a shared library (with a slash in it), the name of one in the folder of
  /// plugins (NAME.so), or else a Python module. The error says why it cannot be loaded.
  absl::Status Load(const std::string& name);

  /// Tells Python plugins which crypto engine the agent uses. Without any: nothing.
  void UseCryptoEngine(const std::string& name);

  /// Whether threads of a Python interpreter may be running.
  bool has_python() const { return python_ != nullptr; }

  /// `lib/sma/plugins` beside the folder of the program's own file.
  static std::string DefaultPluginDir();

 private:
  absl::Status LoadNative(const std::string& path);
  absl::Status LoadPython(const std::string& module);

  Catalog& catalog_;
  const std::string plugin_dir_;
  const PythonHost* python_ = nullptr;
};

}  // namespace sma::plugin
