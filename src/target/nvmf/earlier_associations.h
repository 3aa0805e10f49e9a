#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "base/uuid.h"
#include "target/nvmf/associations.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

/// Lets a host's new association wait for what its earlier ones with the subsystem have left: I/O
/// that an earlier association has outstanding may be executed late, over what the host writes
/// through the new one. Associations of the host that are connected are not waited for (a host may
/// reach a subsystem over several paths); whether they are still connected is asked of their
/// reactors, which may not have noticed yet. The control reactor only.
class EarlierAssociations {
 public:
  EarlierAssociations(Associations& associations, Reactor& control,
                      std::chrono::milliseconds timeout);
  /// Cancels.
  ~EarlierAssociations();
  EarlierAssociations(const EarlierAssociations&) = delete;
  EarlierAssociations& operator=(const EarlierAssociations&) = delete;

  /// Calls `done`, perhaps at once, with true when no association of the host that has ended has
  /// I/O outstanding, and with false when that takes longer than the time-out or is cancelled.
  void Await(std::string_view host_nqn, const base::Uuid& host_id, std::function<void(bool)> done);
  /// Calls the `done` of all that wait.
  void Cancel();

 private:
  struct Wait {
    std::string host_nqn;
    base::Uuid host_id;
    std::function<void(bool)> done;
    uint64_t timer = 0;
    size_t unanswered = 0;  // queue pairs whose reactors have not said whether they are connected
  };
  using Waits = std::list<std::shared_ptr<Wait>>;

  size_t AskQueuePairs(const std::shared_ptr<Wait>& wait);
  bool IsOfHost(const Associations::Association& association, const Wait& wait) const;
  bool IsEmpty(const Wait& wait) const;
  void CheckAll();
  void Finish(Waits::iterator at, bool empty);

  Associations& associations_;
  Reactor& control_;
  const std::chrono::milliseconds timeout_;
  Waits waits_;
};

}  // namespace sma::target::nvmf
