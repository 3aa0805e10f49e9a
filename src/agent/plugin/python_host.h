// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"

namespace sma::plugin {

/// The functions that the shared library of the Python host exports as `sma_python_host`. The
/// interpreter starts with the first module and never ends; its threads run until the program ends.
struct PythonHost {
  /// Imports `module` and adds its factories to `catalog`, which must outlive the program's
  /// threads. An error contains the exception of the import; its traceback is logged. Must be
  /// called by one thread.
  absl::Status (*load)(Catalog& catalog, const std::string& module);

  /// Makes the engine with this name the current engine for Python plugins.
  void (*use_crypto_engine)(const std::string& name);
};

}  // namespace sma::plugin
