// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>

#include "jsonrpc/caller.h"

namespace sma::nvmf_common {

/// Returns the request that rolls back `request`, which has added a namespace, host or listener to
/// a subsystem and was answered with `answer`; nullopt for other requests.
std::optional<jsonrpc::Request> InverseOf(const jsonrpc::Request& request,
                                          const jsonrpc::Json& answer);

}  // namespace sma::nvmf_common
