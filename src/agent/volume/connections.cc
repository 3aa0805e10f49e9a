#include "agent/volume/connections.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_iscsi.h"
#include "agent/spdk/call.h"
#include "agent/volume/address.h"
#include "agent/volume/merge.h"
#include "agent/volume/shared_names.h"

namespace sma::volume {

using base::Context;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

spdk::IscsiUnit UnitOf(const iscsi::VolumeConnectionParameters& params,
                       const iscsi::VolumeConnectionParameters& secrets) {
  return {.portal = params.portal(),
          .target_iqn = params.target_iqn(),
          .lun = params.lun(),
          .chap = {.user = params.chap().user(), .secret = secrets.chap().secret()},
          .mutual_chap = {.user = params.mutual_chap().user(),
                          .secret = secrets.mutual_chap().secret()}};
}

absl::Status NotFound(const record::Volume& row, std::string_view what) {
  return absl::NotFoundError(fmt::format("volume {} {}", row.id.ToString(), what));
}

}  // namespace

Connections::Connections(nanoseconds timeout, jsonrpc::Caller& target,
                         const std::vector<record::Volume>& rows)
    : timeout_(timeout), target_(target), services_(target), controllers_(target) {
  std::vector<const record::Volume*> oldest_first;
  for (const record::Volume& row : rows) oldest_first.push_back(&row);
  std::stable_sort(oldest_first.begin(), oldest_first.end(),
                   [](const auto* a, const auto* b) { return a->created < b->created; });
  for (const record::Volume* row : oldest_first) {
    const SharedNames names = SharedNames::Parse(row->connection);
    for (const std::string& name : names.services) {
      services_.AddUser(name, row->id, row->params.nvmf().hostnqn());
    }
    for (const std::string& name : names.controllers) controllers_.AddUser(name, row->id);
  }
}

std::string Connections::Plan(const VolumeParameters& params) {
  SharedNames names;
  for (const nvmf::Address& endpoint : params.nvmf().discovery().discovery_endpoints()) {
    names.AddService(DiscoveryServices::NameOf(ToTransportAddress(endpoint)));
  }
  if (params.nvmf().has_direct()) {
    names.controllers.push_back(Controllers::NameOf(params.nvmf().subnqn()));
  }
  return names.ToText();
}

Outcome Connections::Connect(const Context& context, const VolumeParameters& secrets,
                             record::Volume& row) {
  const auto until = steady_clock::now() + timeout_;
  Outcome outcome;
  if (row.params.has_iscsi()) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    if (*bdev) {
      return absl::AlreadyExistsError(
          fmt::format("bdev {} is on the target already", row.id.ToString()));
    }
    return CreateIscsi(context, secrets, row);
  }
  if (row.params.nvmf().has_discovery()) {
    outcome = JoinServices(context, row);
  } else if (row.params.nvmf().has_direct()) {
    outcome = JoinController(context, row);
  } else {
    return outcome;
  }
  if (!outcome.ok()) return outcome;
  return WaitForBdev(context, row.params.nvmf().subnqn(), row, until);
}

absl::Status Connections::JoinServices(const Context& context, record::Volume& row) {
  SharedNames joined;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    absl::StatusOr<std::string> name =
        services_.Join(context, row.id, ToTransportAddress(endpoint), row.params.nvmf().hostnqn());
    if (!name.ok()) {
      // What was planned has to be left, too.
      for (std::string& other : SharedNames::Parse(row.connection).services) {
        joined.AddService(std::move(other));
      }
      row.connection = joined.ToText();
      return name.status();
    }
    if (!name->empty()) joined.AddService(*std::move(name));
  }
  row.connection = joined.ToText();
  return absl::OkStatus();
}

Outcome Connections::JoinController(const Context& context, record::Volume& row) {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  RemoteSubsystem subsystem{
      .subnqn = params.subnqn(), .hostnqn = params.hostnqn(), .addresses = {}};
  for (const nvmf::Address& address : params.direct().addresses()) {
    subsystem.addresses.push_back(ToTransportAddress(address));
  }
  return controllers_.Join(context, row.id, subsystem, timeout_);
}

// The target tells neither what is wrong with an iSCSI connection nor whether anybody answered.
Outcome Connections::CreateIscsi(const Context& context, const VolumeParameters& secrets,
                                 const record::Volume& row) {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  const jsonrpc::Request request = spdk::CreateIscsiBdev(
      row.id.ToString(), UnitOf(params, secrets.iscsi()), params.initiator_iqn());
  const Context limited = context.Child(steady_clock::now() + timeout_);
  Outcome outcome = target_.CallMany(limited, {&request, 1}).front().status();
  if (outcome.ok() || absl::IsUnavailable(outcome.status()) || context.done()) return outcome;
  absl::Status not_found =
      NotFound(row, fmt::format("could not be connected: LUN {} of {} at {}: {}", params.lun(),
                                params.target_iqn(), params.portal(), outcome.message()));
  return outcome.is_unknown() ? Outcome::Unknown(not_found) : not_found;
}

absl::Status Connections::WaitForBdev(const Context& context, const std::string& subnqn,
                                      const record::Volume& row, base::TimePoint until) {
  const nanoseconds wait = std::max<nanoseconds>(until - steady_clock::now(), nanoseconds(0));
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), wait);
  if (!bdev.ok()) return bdev.status();
  if (!*bdev) {
    return NotFound(row, "was not found at the given addresses in time" + OtherHosts(row));
  }
  const std::vector<std::string>& nqns = (*bdev)->subsystem_nqns;
  if (subnqn.empty() || std::find(nqns.begin(), nqns.end(), subnqn) != nqns.end()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("volume.nvmf.subnqn: volume {} is in {}, not in {}", row.id.ToString(),
                  nqns.empty() ? "no subsystem" : nqns.front(), subnqn));
}

// A remote may show a volume to one host and not to another.
std::string Connections::OtherHosts(const record::Volume& row) const {
  std::string text;
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    const std::optional<std::string> host = services_.HostOf(name);
    if (!host || *host == row.params.nvmf().hostnqn()) continue;
    text += fmt::format("; the discovery service {}, which other volumes use, asks as {}", name,
                        host->empty() ? "the target's own host" : *host);
  }
  return text;
}

absl::Status Connections::Extend(const Context& context, const VolumeParameters& asked,
                                 const VolumeParameters& secrets, record::Volume& row) {
  const auto until = steady_clock::now() + timeout_;
  const record::Volume before = row;
  if (absl::Status status = MergeConnection(asked, row.params); !status.ok()) return status;
  absl::Status status = Restore(context, secrets, row);
  if (status.ok() && row.params.has_nvmf()) {
    const std::string& subnqn = asked.nvmf().subnqn();
    status = WaitForBdev(context, subnqn.empty() ? row.params.nvmf().subnqn() : subnqn, row, until);
  }
  if (status.ok()) return status;
  // What the row had is what it keeps; only what came with this call is left again.
  const std::vector<std::string> had = SharedNames::Parse(before.connection).services;
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    if (std::find(had.begin(), had.end(), name) != had.end()) continue;
    if (!services_.Leave(spdk::UndoContext(), row.id, name).ok()) return status;
  }
  row = before;
  return status;
}

absl::Status Connections::Release(const Context& context, const record::Volume& row) {
  absl::Status first;
  const SharedNames names = SharedNames::Parse(row.connection);
  for (const std::string& name : names.services) {
    first.Update(services_.Leave(context, row.id, name));
  }
  for (const std::string& name : names.controllers) {
    first.Update(controllers_.Leave(context, row.id, name));
  }
  if (row.params.has_iscsi()) {
    absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteIscsiBdev(row.id.ToString()));
    if (!spdk::IsUnknownName(status)) first.Update(std::move(status));
  }
  return first;
}

absl::Status Connections::Look(const Context& context, bool any_discovery, bool any_direct) {
  absl::Status status;
  if (any_discovery) status = services_.Look(context);
  if (status.ok() && any_direct) status = controllers_.Look(context);
  return status;
}

absl::Status Connections::Restore(const Context& context, const VolumeParameters& secrets,
                                  record::Volume& row) {
  if (row.params.nvmf().has_discovery()) return RestoreServices(context, row);
  if (row.params.nvmf().has_direct()) {
    row.connection = Plan(row.params);
    return JoinController(context, row).status();
  }
  if (!row.params.has_iscsi()) return absl::OkStatus();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  return *bdev ? absl::OkStatus() : CreateIscsi(context, secrets, row).status();
}

absl::Status Connections::RestoreServices(const Context& context, record::Volume& row) {
  const SharedNames before = SharedNames::Parse(row.connection);
  SharedNames after;
  absl::Status status;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const spdk::TransportAddress address = ToTransportAddress(endpoint);
    absl::StatusOr<std::string> name =
        services_.JoinAgain(context, row.id, address, row.params.nvmf().hostnqn(), before.services);
    if (!name.ok()) {
      status.Update(name.status());
      after.AddService(DiscoveryServices::NameOf(address));
    } else if (!name->empty()) {
      after.AddService(*std::move(name));
    }
  }
  for (const std::string& name : before.services) {
    bool used =
        std::find(after.services.begin(), after.services.end(), name) != after.services.end();
    if (used) continue;
    // Where it cannot be left, it stays counted and is left with the volume.
    absl::Status left = status.ok() ? services_.Leave(context, row.id, name) : status;
    if (!left.ok()) after.AddService(name);
    status.Update(std::move(left));
  }
  row.connection = after.ToText();
  return status;
}

}  // namespace sma::volume
