#pragma once

#include <string>
#include <vector>

#include "agent/spdk/nvmf.h"

namespace sma::nvmf_common {

/// A device that is an NVMe-oF subsystem with one listener.
struct SubsystemSpec {
  std::string nqn;
  bool allow_any_host = false;
  std::vector<std::string> hosts;
  spdk::TransportAddress listener;
};

}  // namespace sma::nvmf_common
