// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/nvme_module.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "storage_target/bdev_modules/nvme/driver_info.h"

namespace sma::storage_target::bdev_nvme {

using initiator::Address;
using initiator::Controller;

namespace {

// Parses a namespace UUID, with which UUIDs are derived from the machine id or from a host NQN.
base::Uuid NameSpace(const char* text) { return *base::Uuid::Parse(text); }

// Derives the NQN from the machine id (machine-id(5), which must not be exposed itself), so that it
// does not change. It is random if there is no machine id.
std::string MakeHostNqn() {
  std::string machine_id;
  std::ifstream("/etc/machine-id") >> machine_id;
  base::Uuid uuid =
      machine_id.empty()
          ? base::Uuid::Random()
          : base::Uuid::FromName(NameSpace("9a3a1f5e-7a2b-4c0e-8d46-51f5f3a0c8d2"), machine_id);
  return "nqn.2014-08.org.nvmexpress:uuid:" + uuid.ToString();
}

// A host has one identifier for all of its processes (NVMe Base 2.0 §5.27.1.25).
base::Uuid HostId(const std::string& hostnqn) {
  return base::Uuid::FromName(NameSpace("2f0d6c8b-54f1-4f7e-9b7e-0d1f6f2b7c11"), hostnqn);
}

bdev::Object SaveReconnect(const ReconnectOptions& options) {
  return {{"ctrlr_loss_timeout_sec", int64_t{options.ctrlr_loss_timeout_sec}},
          {"reconnect_delay_sec", options.reconnect_delay_sec},
          {"fast_io_fail_timeout_sec", options.fast_io_fail_timeout_sec}};
}

void Append(bdev::Object& object, bdev::Object more) {
  for (auto& member : more) object.push_back(std::move(member));
}

bdev::ConfigCall SavePath(const std::string& name, const Path& path, const Address& address) {
  const initiator::Association& association = path.association();
  bdev::Object params{{"name", name}};
  Append(params, TransportId(address, association.subnqn));
  Append(params, {{"hostnqn", association.hostnqn},
                  {"hdgst", association.header_digest},
                  {"ddgst", association.data_digest}});
  if (association.source) {
    Append(params, {{"hostaddr", association.source->ip.ToString()},
                    {"hostsvcid", std::to_string(association.source->port)}});
  }
  Append(params, SaveReconnect(path.options().reconnect));
  return {"bdev_nvme_attach_controller", std::move(params)};
}

}  // namespace

NvmeModule::NvmeModule(bdev::Registry& registry, std::vector<Reactor*> reactors)
    : environment_{registry, std::move(reactors), {}}, default_hostnqn_(MakeHostNqn()) {
  registry.AddConfigSource([this](std::vector<bdev::ConfigCall>& calls) { SaveConfig(calls); });
}

NvmeModule::~NvmeModule() = default;

int NvmeModule::SetOptions(const ModuleOptions& options) {
  if (!subsystems_.empty()) return EPERM;
  constexpr uint8_t kMaxAckTimeout = 31;
  bool sound = options.reconnect.IsValid() && options.transport_ack_timeout <= kMaxAckTimeout;
  if (!sound) return EINVAL;
  environment_.options = options;
  return 0;
}

Controller::Options NvmeModule::MakeControllerOptions(const AttachOptions& options) const {
  using std::chrono::milliseconds;
  const ModuleOptions& module = environment_.options;
  const std::string& hostnqn = options.hostnqn.empty() ? default_hostnqn_ : options.hostnqn;
  Controller::Options made{.association = {.address = *options.address,
                                           .source = options.source,
                                           .subnqn = options.subnqn,
                                           .hostnqn = hostnqn,
                                           .host_id = HostId(hostnqn),
                                           .header_digest = options.header_digest,
                                           .data_digest = options.data_digest},
                           .keep_alive_ms = module.keep_alive_timeout_ms,
                           .io_queue_count = options.io_queue_count.value_or(
                               static_cast<uint16_t>(environment_.reactors.size())),
                           .ack_timeout_ms = module.ack_timeout_ms()};
  if (module.timeout_admin_us != 0) {
    made.admin_timeout = milliseconds(std::max<uint64_t>(module.timeout_admin_us / 1000, 1));
  }
  if (module.tcp_connect_timeout_ms != 0) {
    made.connect_timeout = milliseconds(module.tcp_connect_timeout_ms);
  }
  if (options.connect_timeout_us.value_or(0) != 0) {
    made.connect_timeout = milliseconds(std::max<uint64_t>(*options.connect_timeout_us / 1000, 1));
  }
  return made;
}

AttachRefusal NvmeModule::CheckAttach(const AttachOptions& options) const {
  if (options.reconnect && !options.reconnect->IsValid()) return AttachRefusal::kReconnectOptions;
  const RemoteSubsystem* existing = Find(options.name);
  if (existing == nullptr) return AttachRefusal::kNone;
  const std::string& hostnqn = options.hostnqn.empty() ? default_hostnqn_ : options.hostnqn;
  if (existing->removing()) return AttachRefusal::kDetaching;
  if (options.subnqn == existing->subnqn() && existing->HasAddress(*options.address)) {
    return AttachRefusal::kSamePath;
  }
  if (options.multipath == Multipath::kDisable) return AttachRefusal::kMultipathDisabled;
  if (options.subnqn != existing->subnqn()) return AttachRefusal::kOtherSubnqn;
  if (hostnqn != existing->hostnqn()) return AttachRefusal::kOtherHostnqn;
  return AttachRefusal::kNone;
}

AttachRefusal NvmeModule::Attach(const AttachOptions& options, AttachDone done) {
  AttachRefusal refusal = CheckAttach(options);
  if (refusal != AttachRefusal::kNone) return refusal;
  std::shared_ptr<RemoteSubsystem>& subsystem = subsystems_[options.name];
  bool is_new = subsystem == nullptr;
  if (is_new) {
    subsystem = RemoteSubsystem::Make(
        environment_, options.name,
        [this](RemoteSubsystem& gone, bool whole) { OnPathGone(gone, whole); });
  }
  if (options.policy) subsystem->SetPolicy(*options.policy);
  if (!is_new && options.multipath == Multipath::kFailover) {
    subsystem->AddAlternative(*options.address);
    control().Post([names = subsystem->BdevNames(), done = std::move(done)] { done(names); });
    return AttachRefusal::kNone;
  }
  subsystem->AddPath({.id = ++last_path_id_,
                      .controller = MakeControllerOptions(options),
                      .alternatives = {},
                      .reconnect = options.reconnect.value_or(environment_.options.reconnect)},
                     std::move(done));
  return AttachRefusal::kNone;
}

void NvmeModule::OnPathGone(const RemoteSubsystem& subsystem, bool whole) {
  const std::string subnqn = subsystem.subnqn();
  if (whole) Forget(subsystem);
  TellServices(subnqn, /*by_request=*/false);
}

void NvmeModule::Forget(const RemoteSubsystem& subsystem) {
  auto found = subsystems_.find(subsystem.name());
  if (found != subsystems_.end() && found->second.get() == &subsystem) subsystems_.erase(found);
}

void NvmeModule::TellServices(const std::string& subnqn, bool by_request) {
  for (auto& [name, service] : services_) service->OnPathGone(subnqn, by_request);
}

int NvmeModule::Detach(const std::string& name, const DetachFilter& filter,
                       std::function<void()> done) {
  auto found = subsystems_.find(name);
  if (found == subsystems_.end()) return ENODEV;
  const std::shared_ptr<RemoteSubsystem> subsystem = found->second;
  if (filter.subnqn && *filter.subnqn != subsystem->subnqn()) return ENODEV;
  if (filter.address && !subsystem->HasAddress(*filter.address)) return ENODEV;
  auto finish = [this, subsystem, done = std::move(done)](bool whole) {
    if (whole) Forget(*subsystem);
    TellServices(subsystem->subnqn(), /*by_request=*/true);
    done();
  };
  if (!filter.address || subsystem->IsOnlyAddress(*filter.address)) {
    subsystem->Remove([finish] { finish(true); });
    return 0;
  }
  return subsystem->RemoveAddress(*filter.address, [finish] { finish(false); });
}

RemoteSubsystem* NvmeModule::Find(const std::string& name) const {
  auto found = subsystems_.find(name);
  return found == subsystems_.end() ? nullptr : found->second.get();
}

std::vector<RemoteSubsystem*> NvmeModule::List() const {
  std::vector<RemoteSubsystem*> list;
  for (const auto& [name, subsystem] : subsystems_) list.push_back(subsystem.get());
  return list;
}

bool NvmeModule::HasPath(const std::string& subnqn, const std::string& hostnqn,
                         const Address& address) const {
  const std::string& host = hostnqn.empty() ? default_hostnqn_ : hostnqn;
  return std::any_of(subsystems_.begin(), subsystems_.end(), [&](const auto& named) {
    const RemoteSubsystem& subsystem = *named.second;
    return !subsystem.removing() && subsystem.subnqn() == subnqn && subsystem.hostnqn() == host &&
           subsystem.HasAddress(address);
  });
}

int NvmeModule::StartDiscovery(const DiscoveryService::Options& options,
                               std::function<void(int error)> done) {
  if (options.reconnect && !options.reconnect->IsValid()) return EINVAL;
  for (const auto& [name, service] : services_) {
    if (name == options.name || service->Serves(options.address)) return EEXIST;
  }
  const std::string name = options.name;
  auto [made, unused] =
      services_.emplace(name, std::make_unique<DiscoveryService>(
                                  *this, options, [this, name] { StopDiscovery(name, [] {}); }));
  made->second->Start(std::move(done));
  return 0;
}

int NvmeModule::StopDiscovery(const std::string& name, std::function<void()> done) {
  auto found = services_.find(name);
  if (found == services_.end() || found->second->stopping()) return ENOENT;
  found->second->Stop([this, name, done = std::move(done)] {
    // This is posted, because the calling service is still in use.
    control().Post([this, name, done] {
      services_.erase(name);
      done();
    });
  });
  return 0;
}

std::vector<DiscoveryService*> NvmeModule::discovery_services() const {
  std::vector<DiscoveryService*> list;
  for (const auto& [name, service] : services_) list.push_back(service.get());
  return list;
}

bool NvmeModule::IsDiscovered(const std::string& subsystem) const {
  return std::any_of(services_.begin(), services_.end(),
                     [&](const auto& named) { return named.second->HasAttached(subsystem); });
}

void NvmeModule::SaveConfig(std::vector<bdev::ConfigCall>& calls) const {
  const ModuleOptions& options = environment_.options;
  bool resets = options.action_on_timeout == ModuleOptions::TimeoutAction::kReset;
  bdev::Object module{{"action_on_timeout", resets ? "reset" : "none"},
                      {"timeout_us", options.timeout_us},
                      {"timeout_admin_us", options.timeout_admin_us},
                      {"keep_alive_timeout_ms", options.keep_alive_timeout_ms},
                      {"transport_ack_timeout", uint32_t{options.transport_ack_timeout}},
                      {"tcp_connect_timeout_ms", options.tcp_connect_timeout_ms},
                      {"io_queue_requests", options.io_queue_requests},
                      {"bdev_retry_count", int64_t{options.bdev_retry_count}}};
  Append(module, SaveReconnect(options.reconnect));
  calls.push_back({"bdev_nvme_set_options", std::move(module)});
  for (const auto& [name, subsystem] : subsystems_) {
    if (IsDiscovered(name)) continue;
    for (const Path* path : subsystem->paths()) {
      calls.push_back(SavePath(name, *path, path->association().address));
      for (const Address& address : path->options().alternatives) {
        bdev::ConfigCall call = SavePath(name, *path, address);
        call.params.emplace_back("multipath", "failover");
        calls.push_back(std::move(call));
      }
    }
  }
  for (const auto& [name, service] : services_) {
    const DiscoveryService::Options& discovery = service->options();
    bdev::Object params{{"name", name}};
    bdev::Object trid = TransportId(discovery.address, "");
    trid.pop_back();  // the NQN of discovery services is well-known
    Append(params, std::move(trid));
    if (!discovery.hostnqn.empty()) params.emplace_back("hostnqn", discovery.hostnqn);
    if (discovery.reconnect) Append(params, SaveReconnect(*discovery.reconnect));
    calls.push_back({"bdev_nvme_start_discovery", std::move(params)});
  }
}

void NvmeModule::Stop(std::function<void()> done) {
  if (!services_.empty()) {
    const std::string name = services_.begin()->first;
    auto next = [this, done] { Stop(done); };
    if (StopDiscovery(name, next) != 0) control().AddTimer(std::chrono::milliseconds(1), next);
    return;
  }
  if (!subsystems_.empty()) {
    Detach(subsystems_.begin()->first, {}, [this, done] { Stop(done); });
    return;
  }
  done();
}

}  // namespace sma::storage_target::bdev_nvme
