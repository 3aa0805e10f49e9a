// SPDX-License-Identifier: Apache-2.0

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
  /// For each request, the offset in `text` of the end of the value that contains it, which is the
  /// request itself or its batch.
  std::vector<size_t> ends;
};

/// Encodes `requests` with the ids `first_id`, `first_id` + 1 and so on. Returns INVALID_ARGUMENT
/// if one is too large or contains text that is not UTF-8.
absl::StatusOr<EncodedRequests> EncodeRequests(std::span<const Request> requests, uint64_t first_id,
                                               const EncodeOptions& options);

/// One answer: contains `error` if `failed` is set, otherwise `result`.
struct Answer {
  uint64_t id = 0;
  bool failed = false;
  TargetError error;
  Json result;
};

/// Decodes one value of the target's stream, which is an answer or the answers to a batch, and
/// appends the result to `answers`. Returns false if it is neither, or an answer that cannot belong
/// to a request.
bool DecodeAnswers(Json value, std::vector<Answer>& answers);

}  // namespace sma::jsonrpc
