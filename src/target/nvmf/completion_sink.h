#pragma once

#include <cstdint>

#include "target/nvme/status.h"

namespace sma::target::nvmf {

struct Request;

/// Takes the completion of requests that are kept apart from their queue pair: Asynchronous Event
/// Requests. I/O commands complete through QueuePair::Complete, which is not called virtually.
class CompletionSink {
 public:
  /// Ends `request`; `result` becomes dwords 0 and 1 of its completion.
  virtual void Complete(Request& request, nvme::Status status, uint64_t result) = 0;

 protected:
  ~CompletionSink() = default;
};

}  // namespace sma::target::nvmf
