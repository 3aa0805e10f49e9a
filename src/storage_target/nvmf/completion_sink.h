// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/status.h"

namespace sma::storage_target::nvmf {

struct Request;

/// Receives completions of requests that are kept outside their queue pair, that is, of
/// Asynchronous Event Requests. I/O commands complete through QueuePair::Complete, without a
/// virtual call.
class CompletionSink {
 public:
  /// Completes `request`; `result` becomes dwords 0 and 1 of its completion.
  virtual void Complete(Request& request, nvme::Status status, uint64_t result) = 0;

 protected:
  ~CompletionSink() = default;
};

}  // namespace sma::storage_target::nvmf
