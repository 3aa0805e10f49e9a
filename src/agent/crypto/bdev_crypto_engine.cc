#include "agent/crypto/bdev_crypto_engine.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "base/secret.h"

namespace sma::crypto {

using jsonrpc::Request;

namespace {

constexpr size_t kHexDigitsOfAes128 = 32;
constexpr size_t kHexDigitsOfAes256 = 64;

// One finds a crypto bdev that SPDK has kept, one has it back with an old key, one makes the new.
constexpr int kMaxAttempts = 3;

// Of a crypto bdev that is there for a moment only.
std::string AgainName(const std::string& name) { return name + "-again"; }

}  // namespace

std::string BdevCryptoEngine::NameOf(const base::Uuid& volume_id) {
  return "sma-crypto-" + volume_id.ToString();
}

absl::Status BdevCryptoEngine::Check(const CryptoParams& params) const {
  if (params.key.size() != kHexDigitsOfAes128 && params.key.size() != kHexDigitsOfAes256) {
    return absl::InvalidArgumentError("volume.crypto.key: must be of 128 or 256 bits");
  }
  if (params.cipher == VolumeCryptoParameters::AES_CBC) {
    if (params.key2.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("volume.crypto.key2: AES_CBC has one key only");
  }
  if (params.key2.empty()) {
    return absl::InvalidArgumentError("volume.crypto.key2: missing, AES_XTS needs two keys");
  }
  if (params.key2.size() != params.key.size()) {
    return absl::InvalidArgumentError("volume.crypto.key2: not of the same length as key");
  }
  if (base::SecretsEqual(params.key, params.key2)) {
    return absl::InvalidArgumentError("volume.crypto.key2: equal to key");
  }
  return absl::OkStatus();
}

// All in one round trip: the target carries out what comes on one connection in its order.
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
    wrong = Judge(volume, params, attempt);
    absl::Status status = wrong.ok() ? context.status() : absl::OkStatus();
    if (wrong.ok() && status.ok()) return NameOf(volume.id);
    if (!status.ok()) return Undo(volume, attempt, std::move(status));

    const bool is_taken = attempt.found.ok() && attempt.found->base &&
                          attempt.found->base->claimed && !attempt.found->layer;
    if (is_taken) {
      auto other = FindLayerToTakeOver(context, volume, params);
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
      status = Awaken(context, volume, params);
    } else {
      return Undo(volume, attempt, std::move(wrong));
    }
    // What was done for it may be left.
    if (!status.ok()) return Outcome::Unknown(std::move(status));
  }
  return wrong;
}

// Only where nothing of an earlier time is there: the device exports what comes of the requests
// before it is known what that is.
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

// SPDK keeps a crypto bdev whose base has gone by its name, and cannot be told to forget it. When
// another one is asked for on the same base it makes the kept one instead, which can be deleted.
absl::Status BdevCryptoEngine::Awaken(const base::Context& context, const CryptoVolume& volume,
                                      const CryptoParams& params) {
  const std::string name = AgainName(NameOf(volume.id));
  Request requests[] = {spdk::CreateCryptoBdevInline(name, volume.bdev_name, params, driver_),
                        spdk::DeleteCryptoBdev(name)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  spdk::WipeKeys(requests[0].params);
  absl::Status gone = results[1].status();
  return spdk::IsNoSuchCryptoBdev(gone) ? absl::OkStatus() : gone;
}

// Rolls back what `attempt` has created. Returns `reason`, as unknown when something may be left.
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

absl::StatusOr<Found> BdevCryptoEngine::Look(const base::Context& context,
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
  // A layer that another agent has named has a key of another name, too.
  const std::string& key_name = found.layer->crypto->key_name;
  if (found.key && found.key->name == key_name) return found;
  const Request request = spdk::GetCryptoKey(key_name);
  auto key = spdk::ParseCryptoKey(results[2] = target_.CallMany(context, {&request, 1}).front());
  if (!key.ok()) return key.status();
  found.key = *std::move(key);
  return found;
}

// A crypto bdev that this engine has not named: another agent's, on a device that was taken over.
// Its UUID, which is an alias of it, tells it without a listing of all bdevs.
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

// The layer of another agent's that is in use and has these very keys.
absl::StatusOr<std::optional<std::string>> BdevCryptoEngine::FindLayerToTakeOver(
    const base::Context& context, const CryptoVolume& volume, const CryptoParams& params) {
  absl::StatusOr<Found> found = Look(context, volume, &params);
  if (!found.ok()) return found.status();
  const std::optional<spdk::Bdev>& layer = found->layer;
  if (!layer || layer->name == NameOf(volume.id) || !layer->claimed) return std::nullopt;
  const bool has_key = found->key && found->key->name == layer->crypto->key_name;
  if (!has_key) return OtherThanInUse("");
  if (absl::Status same = CompareKeys(*found->key, params); !same.ok()) return same;
  return layer->name;
}

absl::Status BdevCryptoEngine::Verify(const base::Context& context, const CryptoVolume& volume,
                                      const CryptoParams* params) {
  absl::StatusOr<Found> found = Look(context, volume, params);
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
  if (!found->layer) return OtherThanInUse("");
  if (!IsOnBase(*found->layer, found->base)) {
    return VolumeError(absl::StatusCode::kFailedPrecondition, volume,
                       "has a crypto bdev on another bdev");
  }
  if (!found->key || found->key->name != found->layer->crypto->key_name) return OtherThanInUse("");
  return CompareKeys(*found->key, *params);
}

absl::Status BdevCryptoEngine::Cleanup(const base::Context& context, const CryptoVolume& volume) {
  const std::string name = volume.layer.empty() ? NameOf(volume.id) : volume.layer;
  const Request requests[] = {spdk::GetBdev(name), spdk::DeleteCryptoBdev(name),
                              spdk::DeleteCryptoBdev(AgainName(name)),
                              spdk::GetBdev(volume.bdev_name)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  const absl::Status& again = results[2].status();
  if (!again.ok() && !spdk::IsNoSuchCryptoBdev(again)) return again;
  absl::Status deleted = results[1].status();
  if (spdk::IsNoSuchCryptoBdev(deleted)) {
    // Where the base has gone, or somebody else has it, SPDK may keep the crypto bdev for when it
    // comes back, and the key with it. Where it is there and free, the key was left behind.
    auto base = spdk::ParseBdev(results[3]);
    if (!base.ok()) return base.status();
    const bool is_free = *base && !(*base)->claimed;
    return is_free ? DestroyKey(context, name) : absl::OkStatus();
  }
  if (!deleted.ok()) return deleted;
  auto layer = spdk::ParseBdev(results[0]);
  const bool has_key = layer.ok() && *layer && (*layer)->crypto;
  const std::string key_name = has_key ? (*layer)->crypto->key_name : name;
  if (key_name == name) return DestroyKey(context, name);
  // A key that was given along with the bdev has gone with it. One of another agent's has not; it
  // may be used for other bdevs unless it is named after the volume.
  const bool is_adopted = name != NameOf(volume.id);
  const bool is_of_volume = key_name.find(volume.id.ToString()) != std::string::npos;
  return is_adopted && is_of_volume ? DestroyKey(context, key_name) : absl::OkStatus();
}

absl::Status BdevCryptoEngine::DestroyKey(const base::Context& context, const std::string& name) {
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DestroyCryptoKey(name));
  return spdk::IsNoSuchKey(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::optional<std::string>> BdevCryptoEngine::GetCryptoBdev(
    const base::Context& context, const CryptoVolume& volume) {
  absl::StatusOr<Found> found = Look(context, volume, nullptr);
  if (!found.ok()) return found.status();
  if (!found->layer) return std::nullopt;
  return found->layer->name;
}

}  // namespace sma::crypto
