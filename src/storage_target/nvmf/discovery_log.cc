// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/discovery_log.h"

#include <cstring>
#include <utility>

#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::nvmf {
namespace {

nvme::TransportType TypeOf(const TransportAddress& address) {
  if (address.type == "RDMA") return nvme::TransportType::kRdma;
  if (address.type == "FC") return nvme::TransportType::kFibreChannel;
  return nvme::TransportType::kTcp;
}

nvme::DiscoveryLogEntry EntryFor(const std::string& nqn, const TransportAddress& address) {
  nvme::DiscoveryLogEntry entry;
  entry.transport = TypeOf(address);
  entry.family = address.family;
  nvme::SetPadded(entry.subsystem_nqn, nqn, '\0');
  nvme::SetPadded(entry.transport_address, address.address, ' ');
  nvme::SetPadded(entry.service_id, address.service_id, ' ');
  return entry;
}

}  // namespace

DiscoveryLogBuilder::DiscoveryLogBuilder(uint64_t generation) {
  log_.generation = generation;
  log_.page.resize(sizeof(nvme::DiscoveryLogHeader));
}

void DiscoveryLogBuilder::AddSubsystem(const std::string& nqn, bool discovery,
                                       const TransportAddress& address, uint16_t port_id,
                                       uint16_t admin_queue_size) {
  nvme::DiscoveryLogEntry entry = EntryFor(nqn, address);
  entry.subtype =
      discovery ? nvme::DiscoverySubtype::kCurrentDiscovery : nvme::DiscoverySubtype::kNvm;
  if (discovery) {
    entry.flags =
        nvme::kEflagsDuplicateReturnedInformation | nvme::kEflagsExplicitPersistentConnection;
  }
  entry.requirements = nvme::kTreqDisableSqFlowControl;
  entry.port_id = port_id;
  entry.admin_sq_size = admin_queue_size;
  Add(entry);
}

void DiscoveryLogBuilder::AddReferral(const Referral& referral) {
  nvme::DiscoveryLogEntry entry = EntryFor(referral.subsystem_nqn, referral.address);
  entry.subtype = nvme::DiscoverySubtype::kReferral;
  entry.requirements =
      referral.secure_channel ? nvme::kTreqSecureRequired : nvme::kTreqSecureNotRequired;
  entry.admin_sq_size = 128;
  Add(entry);
}

void DiscoveryLogBuilder::Add(const nvme::DiscoveryLogEntry& entry) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&entry);
  log_.page.insert(log_.page.end(), bytes, bytes + sizeof entry);
  ++count_;
}

DiscoveryLog DiscoveryLogBuilder::Finish() {
  nvme::DiscoveryLogHeader header;
  header.generation = log_.generation;
  header.record_count = std::exchange(count_, 0);
  std::memcpy(log_.page.data(), &header, sizeof header);
  return std::move(log_);
}

}  // namespace sma::storage_target::nvmf
