// SPDX-License-Identifier: Apache-2.0

#include "base/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

namespace sma::base {

uint32_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  return DescriptorLimit();
}

uint32_t DescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;  // the kernel's default
  return static_cast<uint32_t>(std::min<rlim_t>(limit.rlim_cur, INT32_MAX));
}

bool IsReservedForJsonRpc(int fd) {
  const uint32_t limit = DescriptorLimit();
  return fd >= 0 && static_cast<uint32_t>(fd) >= limit - JsonRpcReserve(limit);
}

}  // namespace sma::base
