#pragma once

#include <string>

#include "base/context.h"

namespace sma::volume {

/// Why a storage node at an IP address and TCP port may not have been reached, in words, for the
/// message of a call that has failed: the target tells no reason. Tries a TCP connection from this
/// host, for at most a second. Empty: it accepts connections.
std::string WhyUnreachable(const base::Context& context, const std::string& ip,
                           const std::string& port);

}  // namespace sma::volume
