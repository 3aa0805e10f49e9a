// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/iscsi_units.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "agent/probe/iscsi_login.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_iscsi.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/call.h"
#include "agent/volume/check_node.h"
#include "agent/volume/probe.h"
#include "base/lock_table.h"
#include "base/strings.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/error.h"

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

// iSCSI names are compared case-insensitively (RFC 3722, RFC 7143 section 4.2.7.1).
std::pair<std::string, uint32_t> IdentityOf(const record::Volume& row) {
  return {absl::AsciiStrToLower(row.params.iscsi().target_iqn()), row.params.iscsi().lun()};
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

// Two volumes on one logical unit would overwrite each other's data.
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
        fmt::format("bdev {} already exists on the target", row.id.ToString()));
  }
  const std::string& portal = row.params.iscsi().portal();
  if (absl::Status status = nodes_.Admit(portal); !status.ok()) return status;
  const auto start = steady_clock::now();
  const Outcome outcome = Create(context, secrets, row);
  const absl::Status& status = outcome.status();
  if (outcome.ok() || absl::IsUnavailable(status)) return outcome;
  const bool has_waited = steady_clock::now() - start >= RemoteNodes::kSilence;
  if (!absl::IsDeadlineExceeded(status) || has_waited) nodes_.Report(portal, status);
  if (context.done()) return outcome;
  const bool is_silent = absl::IsDeadlineExceeded(status);
  const std::string why = is_silent ? "it does not answer" : WhyNotFound(context, row, secrets);
  absl::Status failure(
      is_silent ? absl::StatusCode::kUnavailable : absl::StatusCode::kNotFound,
      fmt::format("volume {} could not be connected: LUN {} of {} at {}: {} ({})",
                  row.id.ToString(), row.params.iscsi().lun(), row.params.iscsi().target_iqn(),
                  portal, why, outcome.message()));
  return outcome.is_unknown() ? Outcome::Unknown(std::move(failure)) : failure;
}

// The target ends a login that the portal does not answer after a time limit of its own, which may
// be the same as timeout_, and then returns the same error as for a login that was rejected.
absl::Status IscsiUnits::Create(const Context& context, const VolumeParameters& secrets,
                                const record::Volume& row) {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  const jsonrpc::Request request = spdk::CreateIscsiBdev(
      row.id.ToString(), UnitOf(params, secrets.iscsi()), params.initiator_iqn());
  const auto start = steady_clock::now();
  absl::Status status = target_.Call(context.Child(start + timeout_), request).status();
  const bool may_be_silent = !status.ok() && jsonrpc::GetTargetError(status) && !context.done() &&
                             steady_clock::now() - start >= RemoteNodes::kSilence;
  if (!may_be_silent || DoesPortalAnswer(context, row)) return status;
  return absl::DeadlineExceededError(
      fmt::format("the portal does not answer a login: {}", std::string(status.message())));
}

// Returns an empty string if the portal accepts connections.
std::string IscsiUnits::WhyPortalUnreachable(const Context& context, const std::string& portal) {
  const size_t colon = portal.rfind(':');
  std::string host = portal.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return WhyUnreachable(context, host, portal.substr(colon + 1));
}

// Sends no CHAP secret: a portal that answers that it requires one has answered, too.
probe::LoginAnswer IscsiUnits::ProbeLogin(const Context& context, const record::Volume& row) {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  if (!WhyPortalUnreachable(context, params.portal()).empty()) return probe::LoginAnswer::kUnknown;
  return probe::ProbeIscsiLogin({.portal = params.portal(),
                                 .target_iqn = params.target_iqn(),
                                 .initiator_iqn = params.initiator_iqn()},
                                ProbeEnd(context));
}

bool IscsiUnits::DoesPortalAnswer(const Context& context, const record::Volume& row) {
  return ProbeLogin(context, row) != probe::LoginAnswer::kUnknown;
}

bool IscsiUnits::HasNoTarget(const Context& context, const record::Volume& row) const {
  return ProbeLogin(context, row) == probe::LoginAnswer::kNoTarget;
}

bool IscsiUnits::AcceptsLogin(const Context& context, const record::Volume& row,
                              const VolumeRequest& login) {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  return probe::ProbeIscsiLogin({.portal = params.portal(),
                                 .target_iqn = params.target_iqn(),
                                 .initiator_iqn = params.initiator_iqn(),
                                 .chap_user = login.params.iscsi().chap().user(),
                                 .chap_secret = login.secrets.iscsi().chap().secret().c_str()},
                                ProbeEnd(context)) == probe::LoginAnswer::kAccepted;
}

// Asks the portal itself, because the target returns the same error in all cases.
std::string IscsiUnits::WhyNotFound(const Context& context, const record::Volume& row,
                                    const VolumeParameters& secrets) const {
  const iscsi::VolumeConnectionParameters& params = row.params.iscsi();
  const std::string& portal = params.portal();
  const std::string why = WhyPortalUnreachable(context, portal);
  if (!why.empty()) return why;
  const std::string user = params.chap().user();
  switch (probe::ProbeIscsiLogin({.portal = portal,
                                  .target_iqn = params.target_iqn(),
                                  .initiator_iqn = params.initiator_iqn(),
                                  .chap_user = user,
                                  .chap_secret = secrets.iscsi().chap().secret().c_str()},
                                 ProbeEnd(context))) {
    case probe::LoginAnswer::kAccepted:
      return fmt::format("it accepts the login, but has no usable LUN {}", params.lun());
    case probe::LoginAnswer::kChapFailed:
      return user.empty() ? "it requires CHAP, but the request has no CHAP credentials"
                          : fmt::format("CHAP failed for user {}", user);
    case probe::LoginAnswer::kInitiatorRefused:
      return fmt::format("it does not allow initiator {}", params.initiator_iqn());
    case probe::LoginAnswer::kNoTarget:
      return "it has no such target";
    case probe::LoginAnswer::kUnknown:
      break;
  }
  return fmt::format(
      "the portal accepts connections, but rejects the login or the LUN: {}, the "
      "initiator is not allowed, or there is no such target or LUN",
      params.has_chap() ? fmt::format("CHAP failed for user {}", params.chap().user())
                        : "it requires CHAP, but the request has no CHAP credentials");
}

absl::Status IscsiUnits::Retry(const Context& context, const Uuid& volume) {
  const std::optional<record::Volume> row = record_.FindVolume(volume);
  if (!row || row->state != record::VolumeState::kAttached) return absl::OkStatus();
  const jsonrpc::CallScope scope({base::LockTable::Volume(volume).name});
  absl::StatusOr<VolumeParameters> secrets = secrets_of_(*row);
  if (!secrets.ok()) return secrets.status();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, volume.ToString(), nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  return *bdev ? CheckIdentity(*row, **bdev) : Create(context, *secrets, *row);
}

absl::Status IscsiUnits::Restore(const Context& context, const record::Volume& row) {
  absl::StatusOr<VolumeParameters> secrets = secrets_of_(row);
  if (!secrets.ok()) return secrets.status();
  if (!IsRestoring(row)) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    if (*bdev) return CheckIdentity(row, **bdev);
  }
  return nodes_.Restore(row.params.iscsi().portal(), UnitKey(row.id),
                        [this, id = row.id](const Context& attempt) { return Retry(attempt, id); });
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
    // A volume that was rejected because another volume uses the same unit has no bdev. Records of
    // earlier agents may contain two attached volumes on one unit, each with its own bdev.
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
