// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "storage_target/nvmf/associations.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

/// Makes a new association of a host wait for the I/O of its earlier associations with the
/// subsystem: outstanding I/O of an earlier association may be executed late and overwrite data
/// that the host writes through the new one. Associations that are still connected are not waited
/// for, because a host may use several paths; the writes on them wait likewise (QueuePair::Hold).
/// Their reactors are queried, because they may not have noticed the end of a connection; one query
/// serves all waits of the host that began before it. Used only on the control reactor.
class EarlierAssociations {
 public:
  EarlierAssociations(Associations& associations, Reactor& control);
  /// Calls Cancel.
  ~EarlierAssociations();
  EarlierAssociations(const EarlierAssociations&) = delete;
  EarlierAssociations& operator=(const EarlierAssociations&) = delete;

  /// Calls `done`, possibly before returning: with true when no ended association of `host` has
  /// I/O outstanding; with false if that exceeds `timeout` or is cancelled.
  void Await(const Associations::Host& host, std::chrono::milliseconds timeout,
             std::function<void(bool)> done);
  /// Calls the `done` callbacks of all waits with false.
  void Cancel();

  /// Number of queue pairs and waits that were visited since the start, for tests: the work must
  /// not grow with the product of the two.
  uint64_t visits() const { return visits_; }

 private:
  struct Wait {
    std::function<void(bool)> done;
    uint64_t timer = 0;
  };
  /// The waits of one host, by serial number.
  struct HostWaits {
    std::map<uint64_t, Wait> waits;
    uint64_t queried_serial = 0;   // the last wait that the latest query serves
    uint64_t answered_serial = 0;  // the last wait whose query is complete
    size_t unanswered = 0;         // reactors that have not replied to the latest query
  };

  void Query(const Associations::Host& host, const std::shared_ptr<HostWaits>& waits);
  void OnAnswer(const Associations::Host& host, HostWaits& waits);
  void FinishAnswered(const Associations::Host& host);
  void Finish(const Associations::Host& host, uint64_t serial, bool empty);

  Associations& associations_;
  Reactor& control_;
  std::map<Associations::Host, std::shared_ptr<HostWaits>> hosts_;
  uint64_t last_serial_ = 0;
  uint64_t visits_ = 0;
};

}  // namespace sma::storage_target::nvmf
