// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/bdev_crypto_engine.h"

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "base/secret.h"
#include "jsonrpc/error.h"

namespace sma::crypto {

using jsonrpc::Request;

namespace {

constexpr size_t kHexDigitsOfAes128 = 32;
constexpr size_t kHexDigitsOfAes256 = 64;

// The first attempt may find that SPDK has kept an entry for the bdev, and the second one that the
// bdev has reappeared with an old key; the third one then creates the new bdev.
constexpr int kMaxAttempts = 3;

// Name of a crypto bdev that exists only briefly.
std::string TemporaryName(const std::string& name) { return name + "-again"; }

}  // namespace

std::string BdevCryptoEngine::NameOf(const base::Uuid& volume_id) {
  return "sma-crypto-" + volume_id.ToString();
}

absl::Status BdevCryptoEngine::Check(const CryptoParams& params) const {
  if (params.key.size() != kHexDigitsOfAes128 && params.key.size() != kHexDigitsOfAes256) {
    return absl::InvalidArgumentError("volume.crypto.key: must have 128 or 256 bits");
  }
  if (params.cipher == VolumeCryptoParameters::AES_CBC) {
    if (params.key2.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("volume.crypto.key2: AES_CBC uses only one key");
  }
  if (params.key2.empty()) {
    return absl::InvalidArgumentError("volume.crypto.key2: missing, AES_XTS needs two keys");
  }
  if (params.key2.size() != params.key.size()) {
    return absl::InvalidArgumentError("volume.crypto.key2: must have the same length as key");
  }
  if (base::SecretsEqual(params.key, params.key2)) {
    return absl::InvalidArgumentError("volume.crypto.key2: must differ from key");
  }
  return absl::OkStatus();
}

// Takes one round trip, because the target executes the requests of one connection in order.
Attempt BdevCryptoEngine::TryCreate(const base::Context& context, const CryptoVolume& volume,
                                    const CryptoParams& params) {
  std::vector<Request> requests = AttemptRequests(NameOf(volume.id), volume, params, driver_);
  spdk::Results results = spdk::CallToEnd(target_, context, requests);
  return ParseAttempt(params, requests, results);
}

OutcomeOr<std::string> BdevCryptoEngine::Setup(const base::Context& context,
                                               const CryptoVolume& volume,
                                               const CryptoParams& params) {
  absl::Status wrong;
  for (int i = 0; i < kMaxAttempts; ++i) {
    const Attempt attempt = TryCreate(context, volume, params);
    wrong = CheckAttempt(volume, params, attempt);
    absl::Status status = wrong.ok() ? context.status() : absl::OkStatus();
    if (wrong.ok() && status.ok()) return NameOf(volume.id);
    if (!status.ok()) return Undo(volume, attempt, std::move(status));

    const bool is_taken = attempt.found.ok() && attempt.found->base &&
                          attempt.found->base->claimed && !attempt.found->layer;
    if (is_taken) {
      auto other = FindLayerToAdopt(context, volume, params);
      if (!other.ok()) return Undo(volume, attempt, other.status());
      if (!*other) return Undo(volume, attempt, std::move(wrong));
      if (Outcome undone = Undo(volume, attempt, std::move(wrong)); undone.is_unknown()) {
        return undone;
      }
      return **other;
    }
    if (IsStale(attempt)) {
      status = Cleanup(context, volume);
    } else if (IsDormant(attempt)) {
      status = DeleteDormant(context, volume, params);
    } else {
      return Undo(volume, attempt, std::move(wrong));
    }
    // A partial cleanup may have left something behind.
    if (!status.ok()) return Outcome::Unknown(std::move(status));
  }
  return wrong;
}

// Returns a plan only if nothing remains from an earlier layer, because the device exports the
// result of the requests before that result is known.
absl::StatusOr<std::unique_ptr<BdevPlan>> BdevCryptoEngine::Plan(const base::Context& context,
                                                                 const CryptoVolume& volume,
                                                                 const CryptoParams& params) {
  const std::string name = NameOf(volume.id);
  const Request requests[] = {spdk::GetBdev(volume.bdev_name), spdk::GetBdev(name),
                              spdk::GetCryptoKey(KeyNameOf(name, params))};
  spdk::Results results = target_.CallMany(context, requests);
  absl::StatusOr<Found> found = ParseFound(results);
  if (!found.ok()) return found.status();
  if (!found->base || found->base->claimed || found->layer || found->key) return nullptr;
  std::vector<Request> steps = AttemptRequests(name, volume, params, driver_);
  auto undo = [this, volume](const Attempt& attempt, Outcome reason) {
    return Undo(volume, attempt, std::move(reason));
  };
  return std::make_unique<CryptoBdevPlan>(name, volume, params, std::move(steps), std::move(undo));
}

// SPDK keeps the entry of a crypto bdev whose base bdev was removed, by name, and has no method to
// delete it. If another crypto bdev is requested on the same base, SPDK creates the kept one
// instead, which can then be deleted.
absl::Status BdevCryptoEngine::DeleteDormant(const base::Context& context,
                                             const CryptoVolume& volume,
                                             const CryptoParams& params) {
  const std::string name = TemporaryName(NameOf(volume.id));
  Request requests[] = {spdk::CreateCryptoBdevInline(name, volume.bdev_name, params, driver_),
                        spdk::DeleteCryptoBdev(name)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  spdk::WipeKeys(requests[0].params);
  absl::Status gone = results[1].status();
  return spdk::IsNoSuchCryptoBdev(gone) ? absl::OkStatus() : gone;
}

// Rolls back what `attempt` has created. Returns `reason`, as an unknown outcome if something may
// remain.
Outcome BdevCryptoEngine::Undo(const CryptoVolume& volume, const Attempt& attempt, Outcome reason) {
  bool unknown =
      Outcome(attempt.create_bdev).is_unknown() || Outcome(attempt.create_key).is_unknown();
  absl::Status undone;
  if (attempt.create_bdev.ok()) {
    undone = Cleanup(spdk::UndoContext(), volume);
  } else if (!unknown && attempt.create_key.ok()) {
    undone = DestroyKey(spdk::UndoContext(), NameOf(volume.id));
  }
  return unknown || !undone.ok() ? Outcome::Unknown(reason.status()) : reason;
}

absl::StatusOr<Found> BdevCryptoEngine::Query(const base::Context& context,
                                              const CryptoVolume& volume,
                                              const CryptoParams* params) {
  const std::string name = volume.layer.empty() ? NameOf(volume.id) : volume.layer;
  std::vector<Request> requests{spdk::GetBdev(volume.bdev_name), spdk::GetBdev(name)};
  if (params != nullptr) requests.push_back(spdk::GetCryptoKey(KeyNameOf(name, *params)));
  spdk::Results results = target_.CallMany(context, requests);
  auto base = spdk::ParseBdev(results[0]);
  if (!base.ok()) return base.status();
  auto layer = spdk::ParseBdev(results[1]);
  if (!layer.ok()) return layer.status();
  Found found;
  found.base = *std::move(base);
  found.layer = *std::move(layer);
  if (params != nullptr) {
    auto key = spdk::ParseCryptoKey(results[2]);
    if (!key.ok()) return key.status();
    found.key = *std::move(key);
  }
  if (!found.layer && found.base && found.base->claimed) {
    auto foreign = FindForeignLayer(context, *found.base);
    if (!foreign.ok()) return foreign.status();
    found.layer = *std::move(foreign);
  }
  if (params == nullptr || !found.layer || !found.layer->crypto) return found;
  // A layer created by another agent has a key with another name.
  const std::string& key_name = found.layer->crypto->key_name;
  if (found.key && found.key->name == key_name) return found;
  const Request request = spdk::GetCryptoKey(key_name);
  auto key = spdk::ParseCryptoKey(results[2] = target_.Call(context, request));
  if (!key.ok()) return key.status();
  found.key = *std::move(key);
  return found;
}

// Finds a crypto bdev whose name is not from this engine, because another agent created it for a
// device that was then adopted. Its UUID is one of its aliases, so that no listing of all bdevs is
// needed.
absl::StatusOr<std::optional<spdk::Bdev>> BdevCryptoEngine::FindForeignLayer(
    const base::Context& context, const spdk::Bdev& base) {
  if (!base.uuid) return std::nullopt;
  auto layer = spdk::FindBdev(target_, context, spdk::CryptoBdevUuid(*base.uuid).ToString(),
                              std::chrono::nanoseconds(0));
  if (!layer.ok()) return layer.status();
  const bool is_on_base =
      *layer && (*layer)->crypto && (*layer)->crypto->base_bdev_name == base.name;
  return is_on_base ? *std::move(layer) : std::nullopt;
}

// Returns the layer of another agent if it is in use and has exactly these keys.
absl::StatusOr<std::optional<std::string>> BdevCryptoEngine::FindLayerToAdopt(
    const base::Context& context, const CryptoVolume& volume, const CryptoParams& params) {
  absl::StatusOr<Found> found = Query(context, volume, &params);
  if (!found.ok()) return found.status();
  const std::optional<spdk::Bdev>& layer = found->layer;
  if (!layer || layer->name == NameOf(volume.id) || !layer->claimed) return std::nullopt;
  const bool has_key = found->key && found->key->name == layer->crypto->key_name;
  if (!has_key) return KeyMismatchError("");
  if (absl::Status same = CompareKeys(*found->key, params); !same.ok()) return same;
  return layer->name;
}

absl::Status BdevCryptoEngine::Verify(const base::Context& context, const CryptoVolume& volume,
                                      const CryptoParams* params) {
  absl::StatusOr<Found> found = Query(context, volume, params);
  if (!found.ok()) return found.status();
  if (params == nullptr) {
    return found->layer ? absl::InvalidArgumentError(
                              "volume.crypto: missing for a volume that is "
                              "encrypted")
                        : absl::OkStatus();
  }
  if (!found->base) {
    return VolumeError(absl::StatusCode::kNotFound, volume, "is not on the target");
  }
  if (!found->layer) return KeyMismatchError("");
  if (!IsOnBase(*found->layer, found->base)) {
    return VolumeError(absl::StatusCode::kFailedPrecondition, volume,
                       "has a crypto bdev on another bdev");
  }
  if (!found->key || found->key->name != found->layer->crypto->key_name)
    return KeyMismatchError("");
  return CompareKeys(*found->key, *params);
}

absl::Status BdevCryptoEngine::Cleanup(const base::Context& context, const CryptoVolume& volume) {
  const std::string name = NameOf(volume.id);
  if (!volume.layer.empty() && volume.layer != name) return CleanupAdopted(context, volume);
  const Request requests[] = {spdk::GetBdev(name), spdk::DeleteCryptoBdev(name),
                              spdk::DeleteCryptoBdev(TemporaryName(name)),
                              spdk::GetBdev(volume.bdev_name)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  const absl::Status& again = results[2].status();
  if (!again.ok() && !spdk::IsNoSuchCryptoBdev(again)) return again;
  absl::Status deleted = results[1].status();
  if (spdk::IsNoSuchCryptoBdev(deleted)) {
    // If the base does not exist, SPDK may keep the entry of the crypto bdev, and its key, until
    // the base reappears. If the base exists, the key may have been left behind.
    auto base = spdk::ParseBdev(results[3]);
    if (!base.ok()) return base.status();
    return *base ? DestroyUnusedKey(context, volume, name, name) : absl::OkStatus();
  }
  if (!deleted.ok()) return deleted;
  // An inline key was deleted together with its bdev.
  auto layer = spdk::ParseBdev(results[0]);
  const bool has_key = layer.ok() && *layer && (*layer)->crypto;
  const bool has_own_key = has_key && (*layer)->crypto->key_name != name;
  return has_own_key ? absl::OkStatus() : DestroyKey(context, name);
}

// Removes the layer of another agent whose device was adopted, and its key if the key's name
// contains the volume's id: a key of another name may be used by other bdevs. The volume's device
// does not export the layer any more: if it is in use, another agent has recreated it since, for
// example after a restart of the target, and it stays.
absl::Status BdevCryptoEngine::CleanupAdopted(const base::Context& context,
                                              const CryptoVolume& volume) {
  const Request queries[] = {spdk::GetBdev(volume.layer), spdk::GetBdev(volume.bdev_name)};
  const spdk::Results found = target_.CallMany(context, queries);
  auto layer = spdk::ParseBdev(found[0]);
  if (!layer.ok()) return layer.status();
  auto base = spdk::ParseBdev(found[1]);
  if (!base.ok()) return base.status();
  const bool is_there = layer->has_value() && (*layer)->crypto;
  if (is_there && (*layer)->claimed) return absl::OkStatus();
  // Records of schema 4 do not have the key's name; most agents give the key the layer's name.
  const std::string& recorded = volume.key.empty() ? volume.layer : volume.key;
  const std::string key = is_there ? (*layer)->crypto->key_name : recorded;
  const bool is_key_of_volume = key.find(volume.id.ToString()) != std::string::npos;
  if (is_there) {
    absl::Status deleted = spdk::DoToEnd(target_, context, spdk::DeleteCryptoBdev(volume.layer));
    if (!deleted.ok() && !spdk::IsNoSuchCryptoBdev(deleted)) return deleted;
    return is_key_of_volume ? DestroyKey(context, key) : absl::OkStatus();
  }
  const bool is_unused = *base && !(*base)->claimed && is_key_of_volume;
  return is_unused ? DestroyUnusedKey(context, volume, volume.layer, key) : absl::OkStatus();
}

// Destroys the key of the crypto bdev `name`, which does not exist although its base does. SPDK may
// have kept the entry of the bdev, with a reference to the key, since the base was removed. In that
// case the bdev is created when another one is requested on the same unclaimed base, and can then
// be deleted. The bdev requested for this purpose may be kept in the same way if the base is
// removed meanwhile, so both names are requested. The key is not destroyed if the target may still
// have one of the entries.
absl::Status BdevCryptoEngine::DestroyUnusedKey(const base::Context& context,
                                                const CryptoVolume& volume, const std::string& name,
                                                const std::string& key) {
  const std::string again = TemporaryName(name);
  const Request requests[] = {spdk::CreateCryptoBdev(again, volume.bdev_name, key),
                              spdk::CreateCryptoBdev(name, volume.bdev_name, key),
                              spdk::DeleteCryptoBdev(name), spdk::DeleteCryptoBdev(again)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  for (const auto& result : results) {
    if (!result.ok() && !jsonrpc::GetTargetError(result.status())) return result.status();
  }
  auto is_kept = [&](size_t create, size_t remove) {
    const std::optional<jsonrpc::TargetError> refusal =
        jsonrpc::GetTargetError(results[create].status());
    const bool was_there = !refusal || refusal->code == -EEXIST;
    return was_there && !results[remove].ok();
  };
  if (is_kept(1, 2) || is_kept(0, 3)) return absl::OkStatus();
  return DestroyKey(context, key);
}

absl::Status BdevCryptoEngine::DestroyKey(const base::Context& context, const std::string& name) {
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DestroyCryptoKey(name));
  return spdk::IsNoSuchKey(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::optional<std::string>> BdevCryptoEngine::GetCryptoBdev(
    const base::Context& context, const CryptoVolume& volume) {
  absl::StatusOr<Found> found = Query(context, volume, nullptr);
  if (!found.ok()) return found.status();
  if (!found->layer) return std::nullopt;
  return found->layer->name;
}

}  // namespace sma::crypto
