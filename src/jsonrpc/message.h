#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"
#include "jsonrpc/error.h"
#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

struct EncodeOptions {
  size_t max_request_bytes = kMaxRequestBytes;
  bool batch = false;  // as JSON-RPC batches, each within max_request_bytes
};

struct EncodedRequests {
  std::string text;
  /// For each request where the value that carries it (itself or its batch) ends in `text`.
  std::vector<size_t> ends;
};

/// The text of `requests` with the ids `first_id`, `first_id` + 1 and so on. INVALID_ARGUMENT: one
/// is too large or holds text that is not UTF-8.
absl::StatusOr<EncodedRequests> EncodeRequests(std::span<const Request> requests, uint64_t first_id,
                                               const EncodeOptions& options);

/// One answer: `error` if `failed`, else `result`.
struct Answer {
  uint64_t id = 0;
  bool failed = false;
  TargetError error;
  Json result;
};

/// Takes apart one value of the target's stream, an answer or the answers of a batch, and adds them
/// to `answers`. False: it is neither, or an answer that belongs to no request.
bool DecodeAnswers(Json value, std::vector<Answer>& answers);

}  // namespace sma::jsonrpc
