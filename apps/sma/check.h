// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <vector>

#include "agent/config/config.h"

namespace sma::apps {

/// Checks what `config` refers to: the files of the sealing key and of TLS, the embedded target's
/// program, the plugins, which are loaded, and the device types and crypto engine that they must
/// bring. Returns the mistakes, one per element. Addresses are not checked, because an agent that
/// is running may use them. Blocks. After plugins in Python were loaded, the program must end with
/// std::_Exit.
std::vector<std::string> FindConfigMistakes(const config::Config& config);

}  // namespace sma::apps
