// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/subsystem.h"

#include <algorithm>
#include <cerrno>

#include "base/nqn.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/queue_pair.h"

namespace sma::storage_target::nvmf {

Subsystem::Subsystem(bdev::Registry& registry, SubsystemOptions options,
                     OnDiscoveryChange on_discovery_change)
    : options_(std::make_shared<const SubsystemOptions>(std::move(options))),
      on_discovery_change_(std::move(on_discovery_change)),
      allow_any_host_(options_->allow_any_host),
      associations_(options_),
      earlier_associations_(associations_, registry.control()),
      namespaces_(registry, *options_, NamespaceEvents(registry.control())) {}

Namespaces::Events Subsystem::NamespaceEvents(Reactor& control) {
  return {.on_change =
              [this](uint32_t nsid) {
                associations_.Notify([nsid](Controller& controller) {
                  controller.async_events().NamespaceChanged(nsid);
                });
              },
          .on_remove =
              [this](uint32_t nsid, const RetiredNsids::Unnotified& unnotified) {
                associations_.Notify([nsid, unnotified](Controller& controller) {
                  controller.async_events().NamespaceRemoved(nsid, unnotified);
                });
              },
          .process_received =
              [this, &control](std::function<void()> done) {
                associations_.ProcessReceived(control, std::move(done));
              },
          .disconnect_unnotified =
              [this](uint32_t nsid) {
                associations_.Notify(
                    [nsid](Controller& controller) { controller.DisconnectIfUnaware(nsid); });
              }};
}

const Health& Subsystem::health() {
  return health_.Get([this] {
    Health health;
    for (const auto& ns : namespaces_.List()) {
      bdev::IoStats stats = ns->descriptor->bdev().stats();
      health.reads += stats[bdev::IoType::kRead].ops;
      health.bytes_read += stats[bdev::IoType::kRead].bytes;
      health.writes += stats[bdev::IoType::kWrite].ops;
      health.bytes_written += stats[bdev::IoType::kWrite].bytes;
    }
    return health;
  });
}

void Subsystem::set_allow_any_host(bool allow) {
  if (allow_any_host_ == allow) return;
  allow_any_host_ = allow;
  on_discovery_change_();
}

bool Subsystem::IsHostAllowed(std::string_view host_nqn) const {
  return allow_any_host_ || std::find(hosts_.begin(), hosts_.end(), host_nqn) != hosts_.end();
}

int Subsystem::AddHost(const std::string& host_nqn) {
  if (!base::IsValidNqn(host_nqn)) return EINVAL;
  if (std::find(hosts_.begin(), hosts_.end(), host_nqn) != hosts_.end()) return EEXIST;
  hosts_.push_front(host_nqn);
  on_discovery_change_();
  return 0;
}

int Subsystem::RemoveHost(const std::string& host_nqn, std::function<void()> done) {
  auto at = std::find(hosts_.begin(), hosts_.end(), host_nqn);
  if (at == hosts_.end()) return ENOENT;
  hosts_.erase(at);
  on_discovery_change_();
  if (allow_any_host_) {
    done();
  } else {
    associations_.End(
        [&](const auto& association) { return association.controller->host_nqn() == host_nqn; },
        std::move(done));
  }
  return 0;
}

const Subsystem::Listener* Subsystem::FindListener(const TransportAddress& address) const {
  auto at = std::find_if(listeners_.begin(), listeners_.end(),
                         [&](const Listener& l) { return l.address == address; });
  return at == listeners_.end() ? nullptr : &*at;
}

int Subsystem::AddListener(Transport& transport, const TransportAddress& address) {
  if (FindListener(address) != nullptr) return EEXIST;
  auto port_id = transport.Listen(address, options_->nqn);
  if (!port_id.ok()) return port_id.error();
  listeners_.push_front({address, &transport, *port_id});
  on_discovery_change_();
  return 0;
}

int Subsystem::RemoveListener(const TransportAddress& address, std::function<void()> done) {
  auto at = std::find_if(listeners_.begin(), listeners_.end(),
                         [&](const Listener& l) { return l.address == address; });
  if (at == listeners_.end()) return ENOENT;
  at->transport->StopListening(at->address, options_->nqn);
  listeners_.erase(at);
  on_discovery_change_();
  auto came_through_it = [&](const Associations::Association& association) {
    return std::any_of(
        association.queue_pairs.begin(), association.queue_pairs.end(),
        [&](const auto& entry) { return entry.second->listen_address() == address; });
  };
  associations_.End(came_through_it, std::move(done));
  return 0;
}

bool Subsystem::MayConnect(const QueuePair& queue_pair, const ConnectRequest& request) const {
  // Every listener serves discovery (NVMe Base 2.0 §3.1.2.3 leaves this to the implementation).
  bool here = options_->discovery || FindListener(queue_pair.listen_address()) != nullptr;
  return here && IsHostAllowed(nvme::NulTerminated(request.data.host_nqn));
}

ConnectResult Subsystem::AddQueuePair(QueuePair& queue_pair, const ConnectRequest& request) {
  if (!MayConnect(queue_pair, request))
    return ConnectResult::Error(nvme::Status::kConnectInvalidHost);
  ConnectResult result = request.command.queue_id == 0
                             ? associations_.AddController(queue_pair, request)
                             : associations_.AddIoQueue(queue_pair, request);
  if (result.status == nvme::Status::kSuccess)
    result.namespaces = namespaces_.TableFor(queue_pair.reactor());
  return result;
}

void Subsystem::Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) {
  const bool may_wait = request.command.queue_id == 0 && !options_->discovery;
  if (!may_wait || !MayConnect(queue_pair, request)) return done(AddQueuePair(queue_pair, request));
  earlier_associations_.Await(
      {std::string(nvme::NulTerminated(request.data.host_nqn)), base::Uuid(request.data.host_id)},
      std::chrono::milliseconds(options_->reconnect_timeout_ms),
      [this, &queue_pair, request, done = std::move(done)](bool empty) {
        done(empty ? AddQueuePair(queue_pair, request)
                   : ConnectResult::Error(nvme::Status::kConnectControllerBusy));
      });
}

void Subsystem::AwaitLateIo(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller,
                            uint16_t queue_id, std::chrono::milliseconds timeout) {
  earlier_associations_.Await(
      {controller->host_nqn(), controller->host_id()}, timeout,
      [this, &queue_pair, controller, queue_id](bool empty) {
        if (associations_.FindQueuePair(*controller, queue_id) != &queue_pair) return;
        queue_pair.reactor().Post([&queue_pair, empty] { queue_pair.EndHold(empty); });
      });
}

void Subsystem::Shutdown(std::function<void()> done) {
  for (const Listener& listener : listeners_)
    listener.transport->StopListening(listener.address, options_->nqn);
  listeners_.clear();
  on_discovery_change_();
  earlier_associations_.Cancel();
  associations_.End([](const auto&) { return true; },
                    [this, done = std::move(done)] { namespaces_.RemoveAll(done); });
}

}  // namespace sma::storage_target::nvmf
