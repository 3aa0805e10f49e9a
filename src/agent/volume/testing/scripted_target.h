// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "jsonrpc/caller.h"
#include "jsonrpc/error.h"

namespace sma::volume {

/// A target that has a fixed answer, valid or not, for each method. Methods without a fixed answer
/// succeed. Not thread-safe.
class ScriptedTarget : public jsonrpc::Caller {
 public:
  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& /*context*/, std::span<const jsonrpc::Request> requests) override {
    std::vector<absl::StatusOr<jsonrpc::Json>> results;
    for (const jsonrpc::Request& request : requests) {
      called.push_back(request);
      auto found = answers.find(request.method);
      results.push_back(found == answers.end() ? absl::StatusOr<jsonrpc::Json>(true)
                                               : found->second);
    }
    return results;
  }
  uint64_t generation() const override { return connection; }
  bool MayActLate(std::span<const std::string> /*objects*/,
                  std::chrono::nanoseconds /*after_loss*/) const override {
    return false;
  }

  static absl::Status Refusal(int code) {
    return jsonrpc::TargetErrorStatus("test", {code, "refused"});
  }

  std::map<std::string, absl::StatusOr<jsonrpc::Json>> answers;  // by method name
  std::vector<jsonrpc::Request> called;
  uint64_t connection = 1;
};

}  // namespace sma::volume
