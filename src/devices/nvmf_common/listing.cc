// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/listing.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/hash/hash.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

// Number of subsystems queried in one round trip. Up to kOneListing, a listing of all subsystems is
// used instead.
constexpr size_t kPortion = 128;
constexpr size_t kOneListing = 512;
// SPDK's answers are limited to 32 MiB; a subsystem takes about 1 KiB.
constexpr size_t kMaxFullListing = 16'000;

}  // namespace

absl::StatusOr<std::unique_ptr<SubsystemListing>> ListSubsystems(jsonrpc::Caller& target,
                                                                 const base::Context& context,
                                                                 KnownSubsystems& known) {
  uint64_t generation = target.generation();
  const Request request = spdk::GetSubsystems();
  absl::StatusOr<jsonrpc::Json> answer = target.Call(context, request);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::Subsystem>> subsystems = spdk::ParseSubsystems(*answer);
  if (!subsystems.ok()) return subsystems.status();
  std::set<std::string, std::less<>> nqns;
  for (const spdk::Subsystem& subsystem : *subsystems) nqns.insert(subsystem.nqn);
  if (target.generation() == generation) known.Replace(generation, std::move(nqns));
  return std::make_unique<SubsystemListing>(*std::move(subsystems));
}

absl::StatusOr<std::unique_ptr<SubsystemListing>> ListSubsystems(
    jsonrpc::Caller& target, const base::Context& context, KnownSubsystems& known,
    std::span<const std::string> nqns) {
  // All names are listed once per connection, so that devices can then be created without a query.
  const bool needs_names = nqns.size() <= kMaxFullListing && !known.IsOf(target.generation());
  if (nqns.size() <= kOneListing || needs_names) return ListSubsystems(target, context, known);
  std::vector<spdk::Subsystem> subsystems;
  for (size_t begin = 0; begin < nqns.size(); begin += kPortion) {
    std::vector<Request> requests;
    for (const std::string& nqn : nqns.subspan(begin, std::min(kPortion, nqns.size() - begin))) {
      requests.push_back(spdk::GetSubsystem(nqn));
    }
    for (const auto& answer : target.CallMany(context, requests)) {
      absl::StatusOr<std::optional<spdk::Subsystem>> subsystem = spdk::ParseSubsystem(answer);
      if (!subsystem.ok()) return subsystem.status();
      if (*subsystem) subsystems.push_back(**std::move(subsystem));
    }
  }
  return std::make_unique<SubsystemListing>(std::move(subsystems));
}

uint64_t SubsystemListing::FingerprintOf(const std::string& nqn) const {
  const spdk::Subsystem* subsystem = Find(nqn);
  if (subsystem == nullptr) return 0;
  size_t hash = absl::HashOf(nqn, subsystem->is_discovery, subsystem->serial_number,
                             subsystem->allow_any_host, subsystem->hosts);
  for (const spdk::TransportAddress& address : subsystem->listeners) {
    hash = absl::HashOf(hash, address.trtype, address.adrfam, address.traddr, address.trsvcid);
  }
  for (const spdk::Namespace& ns : subsystem->namespaces) {
    hash = absl::HashOf(hash, ns.nsid, ns.bdev_name, ns.uuid.value_or(base::Uuid()).ToBytes(),
                        ns.nguid.value_or(base::Uuid()).ToBytes());
  }
  return hash == 0 ? 1 : hash;
}

}  // namespace sma::nvmf_common
