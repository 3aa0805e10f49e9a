// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/python/workers.h"

namespace sma::python {

/// The interpreter and the loaded plugins. A singleton that is never destroyed.
class Host {
 public:
  static Host& Get();

  /// Imports a module and adds its factories to `catalog`. The first call starts the interpreter.
  absl::Status Load(plugin::Catalog& catalog, const std::string& module);
  void UseCryptoEngine(const std::string& name);

  Workers& workers() { return workers_; }
  jsonrpc::Caller& target() { return catalog_->target(); }
  const plugin::Catalog& catalog() const { return *catalog_; }
  /// Returns the module spdk.sma.agent_side. The caller must hold the interpreter's lock.
  const pybind11::object& agent_side() const { return *agent_side_; }

 private:
  absl::Status Start();
  absl::Status Add(const pybind11::tuple& brought);

  plugin::Catalog* catalog_ = nullptr;
  pybind11::object* agent_side_ = nullptr;
  Workers workers_;
};

}  // namespace sma::python
