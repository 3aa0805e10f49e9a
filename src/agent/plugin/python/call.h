#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/plugin/python/workers.h"
#include "base/context.h"
#include "sma/device_manager.h"

namespace sma::python {

/// What a method of a plugin is called with, and what came of it.
struct Call {
  base::Context context;
  int object = 0;  // its number in spdk.sma.agent_side
  std::string method;
  std::string argument;
  DeviceSpec device{};                   // that it is about; without handle: none
  std::optional<DeviceVolume> volume{};  // that it is about

  bool target_lost = false;  // a call of the target failed because it is not reachable
  absl::StatusOr<std::string> answer = std::string();
};

/// The call that this thread is running; null in threads that a plugin has started.
Call* CurrentCall();

/// A device type or crypto engine of a plugin. Copies are the same.
class PluginObject {
 public:
  PluginObject(int number, std::string name) : number_(number), name_(std::move(name)) {}

  const std::string& name() const { return name_; }

  /// Calls a method and waits as long as `context` allows, a minute at most: its answer, the
  /// plugin's own refusal, or INTERNAL for any other exception, the traceback being in the log;
  /// else as Workers::Run.
  absl::StatusOr<std::string> Run(const base::Context& context, std::string method,
                                  std::string argument, DeviceSpec device = {},
                                  std::optional<DeviceVolume> volume = std::nullopt) const;

 private:
  int number_;
  std::string name_;
  std::shared_ptr<Workers::GivenUp> given_up_ = std::make_shared<Workers::GivenUp>();
};

}  // namespace sma::python
