// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/host.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <pybind11/embed.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "agent/plugin/python/python_crypto_engine.h"
#include "agent/plugin/python/python_device_manager.h"
#include "agent/plugin/python_host.h"

namespace sma::python {

namespace py = pybind11;

namespace {

// Returns the folder of this shared library; the Python package is in folders next to it.
std::filesystem::path OwnFolder() {
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&OwnFolder), &info);
  return std::filesystem::absolute(info.dli_fname).parent_path();
}

// Returns the path of the interpreter whose modules are used: the one in the active virtual
// environment, if any, otherwise the system's.
std::string Program() {
  const char* environment = std::getenv("VIRTUAL_ENV");
  return environment == nullptr ? SMA_PYTHON : std::string(environment) + "/bin/python3";
}

// Returns the log level as a numeric level of Python's logging module.
int LogLevel() {
  constexpr int kPerStep = 10;
  constexpr int kDebug = 10;
  int level = static_cast<int>(spdlog::get_level());
  int debug = static_cast<int>(spdlog::level::debug);
  return level <= debug ? kDebug : (level - debug + 1) * kPerStep;
}

}  // namespace

Host& Host::Get() {
  static Host& host = *new Host;
  return host;
}

absl::Status Host::Start() {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 0;
  // A buffer would be flushed only when the interpreter is finalized, which never happens.
  config.buffered_stdio = 0;
  config.write_bytecode = 0;
  PyConfig_SetBytesString(&config, &config.program_name, Program().c_str());
  PyStatus status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status)) {
    return absl::InternalError(fmt::format("cannot start the Python interpreter: {}",
                                           status.err_msg == nullptr ? "" : status.err_msg));
  }
  absl::Status started;
  try {
    py::list path = py::module_::import("sys").attr("path");
    path.insert(0, (OwnFolder() / "python").string());
    path.append((OwnFolder() / "python-fallback").string());
    agent_side_ = new py::object(py::module_::import("spdk.sma.agent_side"));
    agent_side_->attr("start")(LogLevel());
  } catch (const std::exception& error) {
    started = absl::InternalError(
        fmt::format("cannot load the Python package spdk.sma: {}", error.what()));
  }
  PyEval_SaveThread();  // releases the lock; this thread also acquires it when needed
  return started;
}

absl::Status Host::Load(plugin::Catalog& catalog, const std::string& module) {
  catalog_ = &catalog;
  if (Py_IsInitialized() == 0) {
    if (absl::Status status = Start(); !status.ok()) return status;
  }
  if (agent_side_ == nullptr)
    return absl::InternalError("the Python package spdk.sma cannot be used");
  py::gil_scoped_acquire gil;
  try {
    for (const py::handle& brought : agent_side_->attr("load")(module)) {
      absl::Status status = Add(py::reinterpret_borrow<py::tuple>(brought));
      if (!status.ok()) return status;
    }
  } catch (py::error_already_set& error) {
    return absl::FailedPreconditionError(py::str(error.value()).cast<std::string>());
  }
  return absl::OkStatus();
}

absl::Status Host::Add(const py::tuple& brought) {
  const PluginObject object(brought[1].cast<int>(), brought[2].cast<std::string>());
  if (brought[0].cast<std::string>() == "crypto engine") {
    return catalog_->AddCryptoEngine(
        {.name = object.name(), .make = [object](const nlohmann::json& params) {
           return PythonCryptoEngine::Make(object, params);
         }});
  }
  const std::string protocol = brought[3].cast<std::string>();
  return catalog_->AddDeviceType({.name = object.name(),
                                  .protocol = protocol,
                                  .make = [object, protocol](const nlohmann::json& params) {
                                    return PythonDeviceManager::Make(object, protocol, params);
                                  }});
}

void Host::UseCryptoEngine(const std::string& name) {
  py::gil_scoped_acquire gil;
  agent_side_->attr("use_crypto_engine")(name);
}

}  // namespace sma::python

extern "C" __attribute__((visibility("default"))) const sma::plugin::PythonHost sma_python_host;
extern "C" const sma::plugin::PythonHost sma_python_host = {
    .load =
        [](sma::plugin::Catalog& catalog, const std::string& module) {
          return sma::python::Host::Get().Load(catalog, module);
        },
    .use_crypto_engine =
        [](const std::string& name) { sma::python::Host::Get().UseCryptoEngine(name); },
};
