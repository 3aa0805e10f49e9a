#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/python/workers.h"

namespace sma::python {

/// The interpreter and what plugins have brought. There is one, which is never destroyed.
class Host {
 public:
  static Host& Get();

  /// Imports a module and adds what it brings to `catalog`. Starts the interpreter at first.
  absl::Status Load(plugin::Catalog& catalog, const std::string& module);
  void UseCryptoEngine(const std::string& name);

  Workers& workers() { return workers_; }
  jsonrpc::Caller& target() { return catalog_->target(); }
  const plugin::Catalog& catalog() const { return *catalog_; }
  /// The module spdk.sma.agent_side. The interpreter's lock is held.
  const pybind11::object& agent_side() const { return *agent_side_; }

 private:
  absl::Status Start();
  absl::Status Add(const pybind11::tuple& brought);

  plugin::Catalog* catalog_ = nullptr;
  pybind11::object* agent_side_ = nullptr;
  Workers workers_;
};

}  // namespace sma::python
