#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sma::jsonrpc {

/// Names of the objects that a call is about.
using CallObjects = std::shared_ptr<const std::vector<std::string>>;

/// While one lives, the requests that its thread sends through a Caller are about these objects, so
/// that Caller::MayActLate can be asked about them later. The innermost scope counts. Without one a
/// request is about nothing: its sender does not care whether it is carried out late.
class CallScope {
 public:
  explicit CallScope(std::vector<std::string> objects)
      : CallScope(std::make_shared<const std::vector<std::string>>(std::move(objects))) {}
  /// For work that another thread does for the one where `objects` are Current().
  explicit CallScope(CallObjects objects);
  ~CallScope();

  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  /// Of this thread; null where there is none.
  static CallObjects Current();

 private:
  const CallObjects before_;
};

/// Whether SPDK's `method` only reads: then it does not matter when it is carried out.
inline bool OnlyReads(std::string_view method) {
  return method.find("_get_") != std::string_view::npos;
}

}  // namespace sma::jsonrpc
