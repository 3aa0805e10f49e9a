// SPDX-License-Identifier: Apache-2.0

// The list of built-in device types. The types are named only in this list and in that of the
// command line.

#include "devices/built_in/built_in.h"

#include "devices/nvmf_tcp/type.h"
#include "devices/vfiouser/type.h"
#include "devices/vhost_blk/type.h"

namespace sma::devices {

std::vector<device::BuiltInType> BuiltInTypes() {
  return {nvmf_tcp::Type(), vfiouser::Type(), vhost_blk::Type()};
}

std::vector<config::DeviceType> ConfigurationTypes() {
  std::vector<config::DeviceType> types;
  for (const device::BuiltInType& type : BuiltInTypes()) types.push_back(type.config);
  return types;
}

}  // namespace sma::devices
