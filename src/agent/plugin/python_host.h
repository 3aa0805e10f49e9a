#pragma once

#include <string>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"

namespace sma::plugin {

/// What the shared library of the Python host exports as `sma_python_host`. The interpreter is
/// started with the first module and never ends; its threads run until the program does.
struct PythonHost {
  /// Imports `module` and adds what it brings to `catalog`, which outlives the program's threads.
  /// An error says what the import raised; its traceback is in the log. Called by one thread.
  absl::Status (*load)(Catalog& catalog, const std::string& module);

  /// Makes the engine of this name the one that Python plugins get for the current engine.
  void (*use_crypto_engine)(const std::string& name);
};

}  // namespace sma::plugin
