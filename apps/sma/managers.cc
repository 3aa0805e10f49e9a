#include "sma/managers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

namespace sma::apps {
namespace {

constexpr std::string_view kNoCrypto = "nop";

}  // namespace

absl::Status CheckSupported(const config::Config& config) {
  if (!config.plugins.empty()) {
    const config::Plugin& plugin = config.plugins.front();
    return absl::FailedPreconditionError(
        fmt::format("{}: plugin '{}': this build loads no plugins", plugin.location, plugin.name));
  }
  if (config.crypto.engine != kNoCrypto) {
    return absl::FailedPreconditionError(fmt::format("{}: crypto engine '{}' is not in this build",
                                                     config.crypto.location, config.crypto.engine));
  }
  return absl::OkStatus();
}

std::vector<std::unique_ptr<DeviceManager>> MakeManagers(const config::Config& config,
                                                         jsonrpc::Caller& target) {
  std::vector<std::unique_ptr<DeviceManager>> managers;
  for (const config::Device& device : config.devices) {
    if (device.type == config::Device::Type::kNvmfTcp) {
      managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target));
    } else {
      // Not refused: the published example names such types, and has to start.
      spdlog::error("{}: device type '{}' is not in this build and stays disabled", device.location,
                    device.name);
    }
  }
  if (managers.empty())
    spdlog::warn("no device type is enabled: see `devices` of the configuration");
  return managers;
}

}  // namespace sma::apps
