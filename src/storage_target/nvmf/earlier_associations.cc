// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/earlier_associations.h"

#include <utility>
#include <vector>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

using Host = Associations::Host;

EarlierAssociations::EarlierAssociations(Associations& associations, Reactor& control)
    : associations_(associations), control_(control) {
  associations_.set_on_no_late_io([this](const Host& host) { FinishAnswered(host); });
}

EarlierAssociations::~EarlierAssociations() { Cancel(); }

void EarlierAssociations::Await(const Host& host, std::chrono::milliseconds timeout,
                                std::function<void(bool)> done) {
  if (associations_.FindHost(host) == nullptr) return done(true);
  std::shared_ptr<HostWaits>& waits = hosts_[host];
  if (waits == nullptr) waits = std::make_shared<HostWaits>();
  const uint64_t serial = ++last_serial_;
  Wait& wait = waits->waits[serial];
  wait.done = std::move(done);
  wait.timer = control_.AddTimer(timeout, [this, host, serial, timeout] {
    base::LogOfPeers().Log(
        spdlog::level::warn, host.first,
        "host {}: I/O of an earlier association is still outstanding after {} ms", host.first,
        timeout.count());
    Finish(host, serial, false);
  });
  if (waits->unanswered == 0) Query(host, waits);
}

// If a reactor has noticed the end of a connection, it reports that before it replies here. The
// queue pairs exist until their reactors have processed the tasks that the control reactor posts to
// them.
void EarlierAssociations::Query(const Host& host, const std::shared_ptr<HostWaits>& waits) {
  waits->queried_serial = last_serial_;
  std::map<Reactor*, std::vector<QueuePair*>> queue_pairs;
  if (const auto* associations = associations_.FindHost(host); associations != nullptr) {
    for (const Associations::Association* association : associations->all) {
      for (const auto& [queue_id, queue_pair] : association->queue_pairs) {
        ++visits_;
        queue_pairs[&queue_pair->reactor()].push_back(queue_pair);
      }
    }
  }
  waits->unanswered = queue_pairs.size();
  for (auto& [reactor, of_reactor] : queue_pairs) {
    reactor->Post([this, host, of_reactor = std::move(of_reactor), weak = std::weak_ptr(waits),
                   &control = control_] {
      for (QueuePair* queue_pair : of_reactor) queue_pair->ProcessReceived();
      control.Post([this, host, weak] {
        // Null if all waits of the host have ended; this object may no longer exist.
        if (auto asked = weak.lock()) OnAnswer(host, *asked);
      });
    });
  }
  if (queue_pairs.empty()) waits->answered_serial = waits->queried_serial;
}

void EarlierAssociations::OnAnswer(const Host& host, HostWaits& waits) {
  if (--waits.unanswered > 0) return;
  waits.answered_serial = waits.queried_serial;
  // Waits that began during the query.
  if (waits.waits.rbegin()->first > waits.queried_serial) Query(host, hosts_.find(host)->second);
  FinishAnswered(host);
}

void EarlierAssociations::FinishAnswered(const Host& host) {
  while (true) {
    auto at = hosts_.find(host);
    if (at == hosts_.end()) return;
    const auto* associations = associations_.FindHost(host);
    if (associations != nullptr && associations->with_late_io > 0) return;
    const uint64_t first = at->second->waits.begin()->first;
    if (first > at->second->answered_serial) return;
    Finish(host, first, true);
  }
}

void EarlierAssociations::Finish(const Host& host, uint64_t serial, bool empty) {
  ++visits_;
  auto at = hosts_.find(host);
  auto node = at->second->waits.extract(serial);
  if (at->second->waits.empty()) hosts_.erase(at);
  control_.CancelTimer(node.mapped().timer);
  node.mapped().done(empty);
}

void EarlierAssociations::Cancel() {
  while (!hosts_.empty()) {
    const auto& [host, waits] = *hosts_.begin();
    Finish(Host(host), waits->waits.begin()->first, false);
  }
}

}  // namespace sma::storage_target::nvmf
