#include "agent/volume/iscsi_units.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_iscsi.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/call.h"
#include "agent/volume/probe.h"

namespace sma::volume {

using base::Context;
using base::MutexLock;
using base::Uuid;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

constexpr std::string_view kKeyPrefix = "iscsi ";

std::string UnitKey(const Uuid& volume) {
  return std::string(kKeyPrefix).append(volume.ToString());
}

std::pair<std::string, uint32_t> IdentityOf(const record::Volume& row) {
  return {row.params.iscsi().target_iqn(), row.params.iscsi().lun()};
}

spdk::IscsiUnit UnitOf(const iscsi::VolumeConnectionParameters& params,
                       const iscsi::VolumeConnectionParameters& secrets) {
  return {.portal = params.portal(),
          .target_iqn = params.target_iqn(),
          .lun = params.lun(),
          .chap = {.user = params.chap().user(), .secret = secrets.chap().secret()},
          .mutual_chap = {.user = params.mutual_chap().user(),
                          .secret = secrets.mutual_chap().secret()}};
}

}  // namespace

IscsiUnits::IscsiUnits(nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
                       RemoteNodes& nodes, SecretsOf secrets_of)
    : timeout_(timeout),
      target_(target),
      record_(record),
      nodes_(nodes),
      secrets_of_(std::move(secrets_of)) {
  MutexLock lock(mutex_);
  for (const record::Volume& row : record.Volumes()) {
    if (row.params.has_iscsi()) volumes_.emplace(IdentityOf(row), row.id);
  }
}

std::optional<Uuid> IscsiUnits::VolumeOf(const std::string& key) {
  if (!key.starts_with(kKeyPrefix)) return std::nullopt;
  return Uuid::Parse(std::string_view(key).substr(kKeyPrefix.size()));
}

// Two volumes on one unit would overwrite each other.
absl::Status IscsiUnits::Reserve(const record::Volume& row) {
  MutexLock lock(mutex_);
  auto [reserved, is_new] = volumes_.emplace(IdentityOf(row), row.id);
  if (is_new || reserved->second == row.id) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume.iscsi: LUN {} of {} is attached as volume {}", row.params.iscsi().lun(),
                  row.params.iscsi().target_iqn(), reserved->second.ToString()));
}

Outcome IscsiUnits::Connect(const Context& context, const VolumeParameters& secrets,
                            const record::Volume& row) {
  if (absl::Status status = Reserve(row); !status.ok()) return status;
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  if (*bdev) {
    MutexLock lock(mutex_);
    volumes_.erase(IdentityOf(row));
    return absl::AlreadyExistsError(
        fmt::format("bdev {} is on the target already", row.id.ToString()));
  }
  const std::string& portal = row.params.iscsi().portal();
  if (absl::Status status = nodes_.Admit(portal); !status.ok()) return status;
  const auto start = steady_clock::now();
  const Outcome outcome = Create(context.Child(start + timeout_), secrets, row);
  const absl::Status& status = outcome.status();
  if (outcome.ok() || absl::IsUnavailable(status)) return outcome;
  const bool has_waited = steady_clock::now() - start >= std::chrono::seconds(1);
  if (!absl::IsDeadlineExceeded(status) || has_waited) nodes_.Report(portal, status);
  if (context.done()) return outcome;
  const std::string why =
      absl::IsDeadlineExceeded(status) ? "it does not answer" : WhyNotFound(context, row);
  absl::Status not_found = absl::NotFoundError(fmt::format(
      "volume {} could not be connected: LUN {} of {} at {}: {} ({})", row.id.ToString(),
      row.params.iscsi().lun(), row.params.iscsi().target_iqn(), portal, why, outcome.message()));
  return outcome.is_unknown() ? Outcome::Unknown(std::move(not_found)) : not_found;
}

absl::Status IscsiUnits::Create(const Context& context, const VolumeParameters& secrets,
                                const record::Volume& row) {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  const jsonrpc::Request request = spdk::CreateIscsiBdev(
      row.id.ToString(), UnitOf(params, secrets.iscsi()), params.initiator_iqn());
  return target_.CallMany(context, {&request, 1}).front().status();
}

// The target has one error for everything.
std::string IscsiUnits::WhyNotFound(const Context& context, const record::Volume& row) const {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  const std::string& portal = params.portal();
  const size_t colon = portal.rfind(':');
  std::string host = portal.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  const std::string why = WhyUnreachable(context, host, portal.substr(colon + 1));
  if (!why.empty()) return why;
  return fmt::format(
      "the portal accepts connections and refuses the login or the unit: {}, the "
      "initiator is not allowed, or there is no such target or LUN",
      params.has_chap() ? fmt::format("CHAP failed for user {}", params.chap().user())
                        : "it asks for CHAP, which is not given");
}

absl::Status IscsiUnits::TryAgain(const Context& context, const Uuid& volume) {
  const std::optional<record::Volume> row = record_.FindVolume(volume);
  if (!row || row->state != record::VolumeState::kAttached) return absl::OkStatus();
  absl::StatusOr<VolumeParameters> secrets = secrets_of_(*row);
  if (!secrets.ok()) return secrets.status();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, volume.ToString(), nanoseconds(0));
  if (!bdev.ok() || *bdev) return bdev.status();
  return Create(context, *secrets, *row);
}

absl::Status IscsiUnits::Restore(const Context& context, const record::Volume& row) {
  absl::StatusOr<VolumeParameters> secrets = secrets_of_(row);
  if (!secrets.ok()) return secrets.status();
  if (!IsRestoring(row)) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok() || *bdev) return bdev.status();
  }
  return nodes_.Restore(
      row.params.iscsi().portal(), UnitKey(row.id),
      [this, id = row.id](const Context& attempt) { return TryAgain(attempt, id); });
}

bool IscsiUnits::IsRestoring(const record::Volume& row) const {
  return row.params.has_iscsi() && nodes_.IsRestoring(UnitKey(row.id));
}

void IscsiUnits::EndAttempts(const record::Volume& row) {
  if (row.params.has_iscsi()) nodes_.Cancel(UnitKey(row.id));
}

absl::Status IscsiUnits::Release(const Context& context, const record::Volume& row) {
  EndAttempts(row);
  {
    MutexLock lock(mutex_);
    auto found = volumes_.find(IdentityOf(row));
    const bool is_others = found != volumes_.end() && found->second != row.id;
    // Nothing was made of a volume that is refused for another that is this unit; of such in the
    // record of an agent before, both have a bdev.
    if (is_others && row.state == record::VolumeState::kAttaching) return absl::OkStatus();
  }
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteIscsiBdev(row.id.ToString()));
  if (!status.ok() && !spdk::IsUnknownName(status)) return status;
  MutexLock lock(mutex_);
  auto found = volumes_.find(IdentityOf(row));
  if (found != volumes_.end() && found->second == row.id) volumes_.erase(found);
  return absl::OkStatus();
}

}  // namespace sma::volume
