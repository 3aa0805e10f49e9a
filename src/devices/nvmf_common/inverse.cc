// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/inverse.h"

#include <cstdint>
#include <string>

#include "agent/spdk/nvmf.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

std::optional<Request> InverseOf(const Request& request, const jsonrpc::Json& answer) {
  if (request.method == "nvmf_subsystem_add_ns") {
    absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(answer);
    if (!nsid.ok()) return std::nullopt;
    return spdk::RemoveNamespace(request.params["nqn"].get<std::string>(), *nsid);
  }
  Request inverse = request;
  if (request.method == "nvmf_subsystem_add_host") {
    inverse.method = "nvmf_subsystem_remove_host";
  } else if (request.method == "nvmf_subsystem_add_listener") {
    inverse.method = "nvmf_subsystem_remove_listener";
  } else {
    return std::nullopt;
  }
  return inverse;
}

}  // namespace sma::nvmf_common
