// SPDX-License-Identifier: Apache-2.0

#include "cli/commands.h"

namespace sma::cli {

void AddHandle(CLI::App& command, std::string& handle) {
  command.add_option("handle", handle, "Handle of the device")->required()->type_name("HANDLE");
}

}  // namespace sma::cli
