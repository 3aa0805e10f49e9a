// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/plugin/python/workers.h"
#include "base/context.h"
#include "sma/device_manager.h"

namespace sma::python {

/// A call of a plugin's method: its arguments and its result.
struct Call {
  base::Context context;
  int object = 0;  // number of the object in spdk.sma.agent_side
  std::string method;
  std::string argument;
  DeviceSpec device{};                   // device of the call; no handle if there is none
  std::optional<DeviceVolume> volume{};  // volume of the call

  bool target_lost = false;  // a call failed because the target is unreachable
  absl::StatusOr<std::string> answer = std::string();
};

/// Returns the call that this thread is executing; null in threads started by a plugin.
Call* CurrentCall();

/// A device type or crypto engine of a plugin. Copies refer to the same object.
class PluginObject {
 public:
  PluginObject(int number, std::string name) : number_(number), name_(std::move(name)) {}

  const std::string& name() const { return name_; }

  /// Calls a method and waits as long as `context` allows, at most one minute. Returns its answer;
  /// the plugin's own error; INTERNAL for any other exception, whose traceback is logged; otherwise
  /// the error of Workers::Run.
  absl::StatusOr<std::string> Run(const base::Context& context, std::string method,
                                  std::string argument, DeviceSpec device = {},
                                  std::optional<DeviceVolume> volume = std::nullopt) const;

 private:
  int number_;
  std::string name_;
  std::shared_ptr<Workers::GivenUp> given_up_ = std::make_shared<Workers::GivenUp>();
};

}  // namespace sma::python
