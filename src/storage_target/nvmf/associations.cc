// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/associations.h"

#include <algorithm>
#include <cassert>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/countdown.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

using nvme::ConnectCommand;
using nvme::ConnectData;
using nvme::Status;

namespace {

// SQSIZE is 0's based, and a queue has at least two entries.
bool IsValidQueueSize(uint16_t sq_size, uint32_t limit) { return sq_size >= 1 && sq_size < limit; }

ConnectResult Connected(const ConnectRequest& request, std::shared_ptr<Controller> controller) {
  ConnectResult result;
  result.dw0 = controller->id();
  result.controller = std::move(controller);
  result.queue_id = request.command.queue_id;
  result.queue_size = request.command.sq_size + 1u;
  result.sq_flow_control = (request.command.attributes & nvme::kConnectDisableSqFlowControl) == 0;
  return result;
}

}  // namespace

uint16_t Associations::ChooseCntlid() {
  uint32_t count = subsystem_->max_cntlid - subsystem_->min_cntlid + 1u;
  for (uint32_t i = 0; i < count; ++i) {
    uint16_t cntlid = next_cntlid_;
    next_cntlid_ = cntlid == subsystem_->max_cntlid ? subsystem_->min_cntlid : cntlid + 1;
    if (associations_.count(cntlid) == 0) return cntlid;
  }
  return 0;
}

ConnectResult Associations::AddController(QueuePair& queue_pair, const ConnectRequest& request) {
  const TransportLimits& limits = queue_pair.limits();
  if (!IsValidQueueSize(request.command.sq_size, limits.max_admin_queue_depth)) {
    return ConnectResult::InvalidCommand(offsetof(ConnectCommand, sq_size));
  }
  if (request.data.controller_id != ConnectData::kAnyControllerId) {
    return ConnectResult::InvalidData(offsetof(ConnectData, controller_id));
  }
  uint16_t cntlid = ChooseCntlid();
  if (cntlid == 0) return ConnectResult::Error(Status::kConnectControllerBusy);
  Controller::Identity identity{.id = cntlid,
                                .host_nqn = std::string(nvme::NulTerminated(request.data.host_nqn)),
                                .host_id = base::Uuid(request.data.host_id)};
  HostAssociations& host = hosts_[{identity.host_nqn, identity.host_id}];
  auto controller =
      std::make_shared<Controller>(queue_pair.control_plane(), subsystem_, std::move(identity),
                                   limits, request.command.keep_alive_ms, host.connections);
  Association& association = associations_[cntlid];
  association.controller = controller;
  association.admin_reactor = &queue_pair.reactor();
  association.queue_pairs[0] = &queue_pair;
  host.all.insert(&association);
  base::LogOfPeers().Log(spdlog::level::info, queue_pair.peer_address().address,
                         "{}: controller {} created for host {} at {}", subsystem_->nqn, cntlid,
                         controller->host_nqn(), queue_pair.peer_address().ToString());
  return Connected(request, std::move(controller));
}

ConnectResult Associations::AddIoQueue(QueuePair& queue_pair, const ConnectRequest& request) {
  auto at = associations_.find(request.data.controller_id);
  if (at == associations_.end() || at->second.ending) {
    return ConnectResult::InvalidData(offsetof(ConnectData, controller_id));
  }
  Association& association = at->second;
  Controller& controller = *association.controller;
  if (controller.host_nqn() != nvme::NulTerminated(request.data.host_nqn)) {
    return ConnectResult::InvalidData(offsetof(ConnectData, host_nqn));
  }
  if (controller.host_id().bytes() != request.data.host_id) {
    return ConnectResult::InvalidData(offsetof(ConnectData, host_id));
  }
  uint16_t queue_id = request.command.queue_id;
  if (controller.is_discovery() || queue_id > controller.io_queue_limit()) {
    return ConnectResult::InvalidCommand(offsetof(ConnectCommand, queue_id));
  }
  if (!IsValidQueueSize(request.command.sq_size, queue_pair.limits().max_queue_depth)) {
    return ConnectResult::InvalidCommand(offsetof(ConnectCommand, sq_size));
  }
  if (!controller.ready() || association.queue_pairs.count(queue_id) != 0) {
    return ConnectResult::Error(Status::kCommandSequenceError);
  }
  association.queue_pairs[queue_id] = &queue_pair;
  return Connected(request, association.controller);
}

void Associations::Remove(QueuePair& queue_pair, const Controller& controller) {
  Association* association = Find(controller);
  assert(association != nullptr);
  auto at = std::find_if(association->queue_pairs.begin(), association->queue_pairs.end(),
                         [&](const auto& entry) { return entry.second == &queue_pair; });
  assert(at != association->queue_pairs.end());
  const Host host = HostOf(controller);
  bool admin = at->first == 0;
  association->queue_pairs.erase(at);
  const bool host_had_late_io = HasLateIo(host);
  const bool had_late_io = association->has_late_io();
  association->closed.erase(&queue_pair);
  CountLateIo(*association, had_late_io);
  if (admin) EndAssociation(*association);
  if (queue_pair.counts_as_ended()) --controller.host_connections().ended;
  bool io_queues =
      !association->queue_pairs.empty() && association->queue_pairs.rbegin()->first != 0;
  if (!io_queues) {
    for (auto& done : std::exchange(association->when_io_queues_gone, {})) done();
  }
  std::vector<std::function<void()>> when_gone;
  if (association->queue_pairs.empty()) {
    base::LogOfPeers().Log(spdlog::level::info, queue_pair.peer_address().address,
                           "{}: controller {} for host {} removed", subsystem_->nqn,
                           controller.id(), controller.host_nqn());
    when_gone = std::move(association->when_gone);
    Erase(*association);
  }
  if (host_had_late_io && !HasLateIo(host)) on_no_late_io_(host);
  for (auto& done : when_gone) done();
}

void Associations::Erase(Association& association) {
  auto at = hosts_.find(HostOf(*association.controller));
  HostAssociations& host = at->second;
  if (association.has_late_io()) --host.with_late_io;
  if (association.ending) --host.connections->ended;
  host.all.erase(&association);
  if (host.all.empty()) hosts_.erase(at);
  associations_.erase(association.controller->id());
}

Associations::Host Associations::HostOf(const Controller& controller) {
  return {controller.host_nqn(), controller.host_id()};
}

const Associations::HostAssociations* Associations::FindHost(const Host& host) const {
  auto at = hosts_.find(host);
  return at == hosts_.end() ? nullptr : &at->second;
}

bool Associations::HasLateIo(const Host& host) const {
  const HostAssociations* found = FindHost(host);
  return found != nullptr && found->with_late_io > 0;
}

void Associations::CountLateIo(const Association& association, bool before) {
  const bool now = association.has_late_io();
  if (now == before) return;
  size_t& count = hosts_.find(HostOf(*association.controller))->second.with_late_io;
  count = now ? count + 1 : count - 1;
}

void Associations::NoteClosed(QueuePair& queue_pair, const Controller& controller) {
  Association* association = Find(controller);
  assert(association != nullptr);
  const bool had_late_io = association->has_late_io();
  association->closed.insert(&queue_pair);
  CountLateIo(*association, had_late_io);
  auto admin = association->queue_pairs.find(0);
  if (admin != association->queue_pairs.end() && admin->second == &queue_pair)
    EndAssociation(*association);
}

void Associations::EndAssociation(Association& association) {
  const bool had_late_io = association.has_late_io();
  if (std::exchange(association.ending, true)) return;
  ++association.controller->host_connections().ended;
  CountLateIo(association, had_late_io);
  for (auto& [queue_id, queue_pair] : association.queue_pairs) queue_pair->PostDisconnect();
}

void Associations::End(const std::function<bool(const Association&)>& which,
                       std::function<void()> done) {
  std::vector<Association*> ending;
  for (auto& [cntlid, association] : associations_) {
    if (which(association)) ending.push_back(&association);
  }
  auto gone = Countdown(ending.size(), std::move(done));
  for (Association* association : ending) {
    association->when_gone.push_back(gone);
    EndAssociation(*association);
  }
}

void Associations::EndIoQueues(const Controller& controller, std::function<void()> done) {
  Association* association = Find(controller);
  if (association == nullptr) return done();
  bool any = false;
  for (auto& [queue_id, queue_pair] : association->queue_pairs) {
    if (queue_id == 0) continue;
    any = true;
    queue_pair->PostDisconnect();
  }
  if (!any) return done();
  association->when_io_queues_gone.push_back(std::move(done));
}

void Associations::Notify(const std::function<void(Controller&)>& task) {
  for (auto& [cntlid, association] : associations_) {
    association.admin_reactor->Post(
        [controller = association.controller, task] { task(*controller); });
  }
}

void Associations::ProcessReceived(Reactor& control, std::function<void()> done) {
  std::vector<QueuePair*> all;
  for (auto& [cntlid, association] : associations_) {
    for (auto& [queue_id, queue_pair] : association.queue_pairs) all.push_back(queue_pair);
  }
  auto caught_up = Countdown(all.size(), std::move(done));
  for (QueuePair* queue_pair : all) {
    queue_pair->reactor().Post([queue_pair, &control, caught_up] {
      queue_pair->ProcessReceived();
      control.Post(caught_up);
    });
  }
}

QueuePair* Associations::FindQueuePair(const Controller& controller, uint16_t queue_id) {
  Association* association = Find(controller);
  if (association == nullptr) return nullptr;
  auto at = association->queue_pairs.find(queue_id);
  return at == association->queue_pairs.end() ? nullptr : at->second;
}

Associations::Association* Associations::Find(const Controller& controller) {
  auto at = associations_.find(controller.id());
  return at == associations_.end() || at->second.controller.get() != &controller ? nullptr
                                                                                 : &at->second;
}

}  // namespace sma::storage_target::nvmf
