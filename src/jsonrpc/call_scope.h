// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sma::jsonrpc {

/// Names of the objects that a call affects.
using CallObjects = std::shared_ptr<const std::vector<std::string>>;

/// During the lifetime of a CallScope, the requests that its thread sends through a Caller are
/// associated with these objects, and Caller::MayActLate can be queried for them later. Scopes
/// nest; the innermost one applies. A request outside any scope is not associated with an object:
/// its sender does not care whether the target executes it late.
class CallScope {
 public:
  explicit CallScope(std::vector<std::string> objects)
      : CallScope(std::make_shared<const std::vector<std::string>>(std::move(objects))) {}
  /// Used for work on behalf of another thread, whose Current() is `objects`.
  explicit CallScope(CallObjects objects);
  ~CallScope();

  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  /// Returns the objects of this thread's innermost scope; null without a scope.
  static CallObjects Current();

 private:
  const CallObjects before_;
};

/// Returns true if SPDK's `method` only reads, so that it does not matter when it is executed.
inline bool OnlyReads(std::string_view method) {
  return method.find("_get_") != std::string_view::npos;
}

}  // namespace sma::jsonrpc
