// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/crypto_attempt.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "base/secret.h"
#include "base/strings.h"
#include "jsonrpc/error.h"

namespace sma::crypto {

using jsonrpc::Json;
using jsonrpc::Request;

namespace {

// Compares the keys in lower case, in constant time: the duration must not reveal how many bytes
// match.
bool SameKey(const std::string& theirs, std::string_view ours) {
  std::string lower = base::ToLower(theirs);
  bool same = base::SecretsEqual(lower, ours);
  base::WipeString(lower);
  return same;
}

}  // namespace

bool IsInline(const CryptoParams& params) {
  return params.tweak_mode == VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA;
}

std::string KeyNameOf(const std::string& bdev_name, const CryptoParams& params) {
  return IsInline(params) ? spdk::InlineKeyName(bdev_name, params.cipher) : bdev_name;
}

absl::Status VolumeError(absl::StatusCode code, const CryptoVolume& volume, std::string_view what) {
  return absl::Status(code, fmt::format("volume {} {}", volume.id.ToString(), what));
}

absl::Status KeyMismatchError(const char* field) {
  return absl::InvalidArgumentError(
      fmt::format("volume.crypto{}: differs from the volume's current encryption", field));
}

absl::Status CompareKeys(const spdk::CryptoKey& key, const CryptoParams& params) {
  if (key.cipher != spdk::CipherName(params.cipher)) return KeyMismatchError(".cipher");
  if (key.tweak_mode != spdk::TweakModeName(params.tweak_mode)) {
    return KeyMismatchError(".tweak_mode");
  }
  // The comparison ignores case. Both keys are always compared.
  bool same = SameKey(key.key, params.key);
  bool same2 = SameKey(key.key2, params.key2);
  if (!same) return KeyMismatchError(".key");
  return same2 ? absl::OkStatus() : KeyMismatchError(".key2");
}

bool IsOnBase(const spdk::Bdev& layer, const std::optional<spdk::Bdev>& base) {
  return base && layer.crypto && layer.crypto->base_bdev_name == base->name;
}

absl::StatusOr<Found> ParseFound(std::span<absl::StatusOr<Json>> answers) {
  auto base = spdk::ParseBdev(answers[0]);
  auto layer = spdk::ParseBdev(answers[1]);
  auto key = spdk::ParseCryptoKey(answers[2]);
  if (!key.ok()) return key.status();
  if (!layer.ok()) return layer.status();
  if (!base.ok()) return base.status();
  Found found;
  found.base = *std::move(base);
  found.layer = *std::move(layer);
  found.key = *std::move(key);
  return found;
}

std::vector<Request> AttemptRequests(const std::string& name, const CryptoVolume& volume,
                                     const CryptoParams& params, const std::string& driver) {
  std::vector<Request> requests;
  if (IsInline(params)) {
    requests.push_back(spdk::CreateCryptoBdevInline(name, volume.bdev_name, params, driver));
  } else {
    requests.push_back(spdk::CreateCryptoKey(name, params));
    requests.push_back(spdk::CreateCryptoBdev(name, volume.bdev_name, name));
  }
  requests.push_back(spdk::GetBdev(volume.bdev_name));
  requests.push_back(spdk::GetBdev(name));
  requests.push_back(spdk::GetCryptoKey(KeyNameOf(name, params)));
  return requests;
}

Attempt ParseAttempt(const CryptoParams& params, std::span<Request> sent,
                     std::span<absl::StatusOr<Json>> answers) {
  for (Request& request : sent) spdk::WipeKeys(request.params);
  // An inline key needs no rollback of its own.
  const absl::Status no_key = absl::UnimplementedError("the key is inline");
  const size_t query_index = IsInline(params) ? 1 : 2;
  return {.create_key = IsInline(params) ? no_key : answers[0].status(),
          .create_bdev = answers[query_index - 1].status(),
          .found = ParseFound(answers.subspan(query_index))};
}

absl::Status CheckAttempt(const CryptoVolume& volume, const CryptoParams& params,
                          const Attempt& attempt) {
  if (!attempt.found.ok()) return attempt.found.status();
  const Found& found = *attempt.found;
  if (!found.base) {
    return VolumeError(absl::StatusCode::kNotFound, volume, "is not on the target");
  }
  if (found.layer) {
    bool is_right = IsOnBase(*found.layer, found.base) && found.key &&
                    found.layer->crypto->key_name == found.key->name &&
                    CompareKeys(*found.key, params).ok();
    if (is_right) return absl::OkStatus();
    return found.layer->claimed
               ? VolumeError(absl::StatusCode::kAlreadyExists, volume,
                             "is in use on the target with other keys")
               : VolumeError(absl::StatusCode::kInternal, volume,
                             "is encrypted on the target with keys other than the requested ones");
  }
  if (found.base->claimed) {
    return VolumeError(absl::StatusCode::kAlreadyExists, volume,
                       "is in use elsewhere on the target");
  }
  if (!attempt.create_bdev.ok()) {
    bool for_want_of_key = !IsInline(params) && !attempt.create_key.ok();
    return for_want_of_key ? attempt.create_key : attempt.create_bdev;
  }
  return VolumeError(absl::StatusCode::kInternal, volume, "has no crypto bdev after creating it");
}

bool IsStale(const Attempt& attempt) {
  return attempt.found.ok() && attempt.found->base && attempt.found->layer &&
         !attempt.found->layer->claimed;
}

bool IsDormant(const Attempt& attempt) {
  if (!attempt.found.ok() || !attempt.found->base || attempt.found->base->claimed ||
      attempt.found->layer) {
    return false;
  }
  std::optional<jsonrpc::TargetError> refusal = jsonrpc::GetTargetError(attempt.create_bdev);
  return refusal && (refusal->code == -EEXIST || attempt.found->key);
}

CryptoBdevPlan::~CryptoBdevPlan() {
  for (Request& request : requests_) spdk::WipeKeys(request.params);
}

Outcome CryptoBdevPlan::CheckResults(std::span<Request> sent,
                                     std::span<absl::StatusOr<Json>> answers) {
  attempt_ = ParseAttempt(params_, sent, answers);
  absl::Status status = crypto::CheckAttempt(volume_, params_, *attempt_);
  bool in_the_way = !status.ok() && (IsStale(*attempt_) || IsDormant(*attempt_));
  return in_the_way ? Outcome::NeedsSetup(std::move(status)) : status;
}

Outcome CryptoBdevPlan::Undo(Outcome reason) {
  return attempt_ ? undo_(*attempt_, std::move(reason)) : reason;
}

}  // namespace sma::crypto
