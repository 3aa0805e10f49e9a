#include "target/nvmf/earlier_associations.h"

#include <algorithm>
#include <utility>

#include "spdlog/spdlog.h"
#include "target/nvmf/queue_pair.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

EarlierAssociations::EarlierAssociations(Associations& associations, Reactor& control,
                                         std::chrono::milliseconds timeout)
    : associations_(associations), control_(control), timeout_(timeout) {
  associations_.set_on_removed([this] { CheckAll(); });
}

EarlierAssociations::~EarlierAssociations() { Cancel(); }

bool EarlierAssociations::IsOfHost(const Associations::Association& association,
                                   const Wait& wait) const {
  const Controller& controller = *association.controller;
  return controller.host_id() == wait.host_id && controller.host_nqn() == wait.host_nqn;
}

// A reactor that has noticed the end of a connection has told so before it answers here.
size_t EarlierAssociations::AskQueuePairs(const std::shared_ptr<Wait>& wait) {
  size_t asked = 0;
  for (const auto& [cntlid, association] : associations_.all()) {
    if (!IsOfHost(association, *wait)) continue;
    for (const auto& [queue_id, queue_pair] : association.queue_pairs) {
      ++asked;
      queue_pair->reactor().Post(
          [this, queue_pair = queue_pair, weak = std::weak_ptr(wait), &control = control_] {
            queue_pair->CatchUp();
            control.Post([this, weak] {
              auto answered = weak.lock();  // null: it does not wait any more, nor need this exist
              if (answered == nullptr) return;
              --answered->unanswered;
              CheckAll();
            });
          });
    }
  }
  return asked;
}

void EarlierAssociations::Await(std::string_view host_nqn, const base::Uuid& host_id,
                                std::function<void(bool)> done) {
  auto wait = std::make_shared<Wait>();
  wait->host_nqn = host_nqn;
  wait->host_id = host_id;
  wait->unanswered = AskQueuePairs(wait);
  if (wait->unanswered == 0) return done(true);
  wait->done = std::move(done);
  auto at = waits_.insert(waits_.end(), wait);
  wait->timer = control_.AddTimer(timeout_, [this, at] {
    spdlog::warn("host {}: I/O of its earlier association has not ended in time, Connect refused",
                 (*at)->host_nqn);
    (*at)->timer = 0;
    Finish(at, false);
  });
}

bool EarlierAssociations::IsEmpty(const Wait& wait) const {
  return std::none_of(
      associations_.all().begin(), associations_.all().end(), [&](const auto& entry) {
        const Associations::Association& association = entry.second;
        return IsOfHost(association, wait) && (association.ending || !association.closed.empty());
      });
}

void EarlierAssociations::CheckAll() {
  for (auto at = waits_.begin(); at != waits_.end();) {
    auto next = std::next(at);
    if ((*at)->unanswered == 0 && IsEmpty(**at)) Finish(at, true);
    at = next;
  }
}

void EarlierAssociations::Finish(Waits::iterator at, bool empty) {
  std::shared_ptr<Wait> wait = std::move(*at);
  waits_.erase(at);
  control_.CancelTimer(wait->timer);
  wait->done(empty);
}

void EarlierAssociations::Cancel() {
  while (!waits_.empty()) Finish(waits_.begin(), false);
}

}  // namespace sma::target::nvmf
