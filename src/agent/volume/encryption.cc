// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/encryption.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "agent/crypto/bdev_crypto_engine.h"
#include "agent/crypto/crypto_attempt.h"
#include "agent/crypto/nop_engine.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/crypto.h"
#include "base/lock_table.h"
#include "base/secret.h"

namespace sma::volume {
namespace {

// Returns true if another agent created the layer of this name, which the engine bdev_crypto would
// have named differently.
bool IsAdopted(const record::Volume& row) {
  return row.bdev_name != BaseBdevName(row) &&
         row.bdev_name != crypto::BdevCryptoEngine::NameOf(row.id);
}

CryptoVolume CryptoVolumeOf(const record::Volume& row) {
  CryptoVolume volume{.id = row.id, .bdev_name = BaseBdevName(row)};
  if (!row.params.has_crypto() || row.bdev_name == volume.bdev_name) return volume;
  volume.layer = row.bdev_name;
  if (IsAdopted(row)) volume.key = row.layer_key;
  return volume;
}

// Converts a key from the target's description; its cipher and tweak mode must be known names.
absl::StatusOr<crypto::VolumeKeys> KeysIn(const spdk::CryptoKey& key) {
  VolumeCryptoParameters params;
  params.set_cipher(*spdk::CipherOf(key.cipher));
  params.set_tweak_mode(*spdk::TweakModeOf(key.tweak_mode));
  params.set_key(key.key);
  params.set_key2(key.key2);
  absl::StatusOr<crypto::VolumeKeys> keys = crypto::VolumeKeys::FromRequest(params);
  base::WipeString(*params.mutable_key());
  base::WipeString(*params.mutable_key2());
  return keys;
}

// Returns true if `key` is the volume's key, or if nothing is kept to compare it with.
bool HasKeysOf(const record::Volume& row, const spdk::CryptoKey& key) {
  if (!Sealer::HasKeys(row.sealed)) return true;
  absl::StatusOr<crypto::VolumeKeys> keys = KeysIn(key);
  return keys.ok() && Sealer::SameKeys(row.id, row.sealed, *keys);
}

absl::Status DiffersError(const record::Volume& row) {
  // Set while the volume needs its key (Encryption::Restore).
  if (row.last_error.code == absl::StatusCode::kFailedPrecondition) {
    return absl::InvalidArgumentError(fmt::format(
        "volume.crypto: volume {} is not exported, because it needs its key, and these encryption "
        "parameters are not those with which it was attached",
        row.id.ToString()));
  }
  return absl::InvalidArgumentError(
      fmt::format("volume.crypto: volume {} is attached with different encryption parameters",
                  row.id.ToString()));
}

// Checks the bdev that a volume's device exports: it must be the volume's own bdev or a layer on
// it. `answers` describe the volume's own bdev and the exported one. Returns the exported bdev.
absl::StatusOr<spdk::Bdev> CheckExported(std::span<const absl::StatusOr<jsonrpc::Json>> answers,
                                         const record::Volume& row) {
  auto base = spdk::ParseBdev(answers[0]);
  if (!base.ok()) return base.status();
  auto found = spdk::ParseBdev(answers[1]);
  if (!found.ok()) return found.status();
  const std::string name = "volume " + row.id.ToString();
  if (!*found) return absl::NotFoundError(name + ": its device exports no bdev");
  const bool is_own = *base && (*base)->name == (*found)->name;
  const bool is_layer =
      *base && (*found)->crypto && (*found)->crypto->base_bdev_name == (*base)->name;
  if (is_own || is_layer) return **std::move(found);
  return absl::FailedPreconditionError(fmt::format(
      "{}: its device exports bdev {}, which is neither the volume's bdev nor its crypto bdev",
      name, (*found)->name));
}

// How many volumes are queried in one round trip.
constexpr size_t kPortion = 64;

}  // namespace

std::string BaseBdevName(const record::Volume& row) { return row.id.ToString(); }

Encryption::Encryption(std::chrono::nanoseconds late_action_time, jsonrpc::Caller& target,
                       std::unique_ptr<CryptoEngine> engine, Sealer& sealer)
    : late_action_time_(late_action_time),
      target_(target),
      engine_(std::move(engine)),
      default_engine_(std::make_unique<crypto::BdevCryptoEngine>(target, /*driver=*/"")),
      sealer_(sealer) {}

CryptoEngine& Encryption::removal_engine() const {
  return engine_->name() == crypto::NopEngine::kName ? *default_engine_ : *engine_;
}

absl::Status Encryption::Check(const VolumeRequest& request) const {
  return request.keys ? engine_->Check(request.keys->params()) : absl::OkStatus();
}

Outcome Encryption::Setup(const base::Context& context, const VolumeRequest& request,
                          record::Volume& row) {
  return request.keys ? CreateLayer(context, *request.keys, row) : Outcome();
}

absl::StatusOr<std::unique_ptr<BdevPlan>> Encryption::Plan(const base::Context& context,
                                                           const VolumeRequest& request,
                                                           record::Volume& row) {
  if (!request.keys) return nullptr;
  auto plan = engine_->Plan(context, CryptoVolumeOf(row), request.keys->params());
  if (plan.ok() && *plan) row.bdev_name = (*plan)->bdev_name();
  return plan;
}

Outcome Encryption::CreateLayer(const base::Context& context, const crypto::VolumeKeys& keys,
                                record::Volume& row) {
  OutcomeOr<std::string> name = engine_->Setup(context, CryptoVolumeOf(row), keys.params());
  if (!name.ok()) return name.outcome();
  row.bdev_name = *name;
  return NoteKey(context, row);
}

// The name of the key is found only through its layer, which is removed before it.
absl::Status Encryption::NoteKey(const base::Context& context, record::Volume& row) {
  if (engine_->name() != crypto::BdevCryptoEngine::kName || !IsAdopted(row)) {
    return absl::OkStatus();
  }
  auto layer = spdk::FindBdev(target_, context, row.bdev_name, std::chrono::nanoseconds(0));
  if (!layer.ok()) return layer.status();
  if (*layer && (*layer)->crypto) row.layer_key = (*layer)->crypto->key_name;
  return absl::OkStatus();
}

// An abandoned call may still destroy the key of the previous layer. The new key would have the
// same name, and the target crashes if a key is destroyed while a layer uses it.
Outcome Encryption::RecreateLayer(const base::Context& context, const crypto::VolumeKeys& keys,
                                  record::Volume& row) {
  const std::vector<std::string> objects = {base::LockTable::Volume(row.id).name};
  if (target_.MayActLate(objects, late_action_time_)) {
    return absl::UnavailableError(
        fmt::format("volume {}: the target may still act on an earlier call that was abandoned",
                    row.id.ToString()));
  }
  const std::string recorded = row.bdev_name;
  Outcome made = CreateLayer(context, keys, row);
  const bool is_others =
      made.ok() && engine_->name() == crypto::BdevCryptoEngine::kName && IsAdopted(row);
  if (!is_others) return made;
  const std::string layer = std::exchange(row.bdev_name, recorded);
  return absl::AlreadyExistsError(
      fmt::format("volume {}: is in use through crypto bdev {}, which this agent did not create",
                  row.id.ToString(), layer));
}

bool Encryption::MatchesRecord(const VolumeRequest& request, const record::Volume& row) const {
  if (!request.keys || !row.params.has_crypto() || !Sealer::HasKeys(row.sealed)) return false;
  const VolumeCryptoParameters& ours = row.params.crypto();
  const CryptoParams asked = request.keys->params();
  return ours.cipher() == asked.cipher && ours.tweak_mode() == asked.tweak_mode &&
         Sealer::SameKeys(row.id, row.sealed, *request.keys) &&
         !sealer_.ShouldReseal(row.id, row.sealed);
}

absl::Status Encryption::CheckRepeated(const VolumeRequest& request,
                                       const record::Volume& row) const {
  if (!row.params.has_crypto()) return absl::OkStatus();
  if (!request.keys) return DiffersError(row);
  const VolumeCryptoParameters& ours = row.params.crypto();
  const CryptoParams asked = request.keys->params();
  const bool is_same =
      ours.cipher() == asked.cipher && ours.tweak_mode() == asked.tweak_mode &&
      (!Sealer::HasKeys(row.sealed) || Sealer::SameKeys(row.id, row.sealed, *request.keys));
  return is_same ? absl::OkStatus() : DiffersError(row);
}

absl::Status Encryption::RepeatSetup(const base::Context& context, const VolumeRequest& request,
                                     record::Volume& row) {
  if (!request.keys) return row.params.has_crypto() ? DiffersError(row) : absl::OkStatus();
  if (!row.params.has_crypto()) return VerifyAndAdopt(context, request, row);
  if (absl::Status status = CheckKeys(context, request, row); !status.ok()) return status;
  absl::StatusOr<Layer> layer = FindLayer(context, row);
  if (!layer.ok()) return layer.status();
  if (*layer != Layer::kRight) {
    if (Outcome made = RecreateLayer(context, *request.keys, row); !made.ok()) return made.status();
  }
  if (sealer_.ShouldReseal(row.id, row.sealed)) {
    row.sealed = sealer_.Seal(row.id, request.secrets, &*request.keys);
  }
  return absl::OkStatus();
}

absl::Status Encryption::CheckKeys(const base::Context& context, const VolumeRequest& request,
                                   const record::Volume& row) {
  absl::Status status = CheckRepeated(request, row);
  if (!status.ok() || Sealer::HasKeys(row.sealed)) return status;
  const CryptoParams asked = request.keys->params();
  return engine_->Verify(context, CryptoVolumeOf(row), &asked);
}

// Queries the bdev `exported`, which must be the volume's own bdev or a layer on top of it.
absl::StatusOr<spdk::Bdev> Encryption::FindExported(const base::Context& context,
                                                    const std::string& exported,
                                                    const record::Volume& row) {
  const jsonrpc::Request requests[] = {spdk::GetBdev(BaseBdevName(row)), spdk::GetBdev(exported)};
  const spdk::Results answers = target_.CallMany(context, requests);
  return CheckExported(answers, row);
}

absl::Status Encryption::Adopt(const base::Context& context, const std::string& exported,
                               record::Volume& row) {
  Adoption adoption{.exported = exported, .row = &row};
  AdoptAll(context, {&adoption, 1});
  return adoption.status;
}

void Encryption::AdoptAll(const base::Context& context, std::span<Adoption> adoptions) {
  while (!adoptions.empty()) {
    const std::span<Adoption> portion = adoptions.first(std::min(kPortion, adoptions.size()));
    adoptions = adoptions.subspan(portion.size());
    std::vector<jsonrpc::Request> requests;
    for (const Adoption& adoption : portion) {
      requests.push_back(spdk::GetBdev(BaseBdevName(*adoption.row)));
      requests.push_back(spdk::GetBdev(adoption.exported));
    }
    const spdk::Results answers = target_.CallMany(context, requests);
    requests.clear();
    std::vector<std::pair<Adoption*, spdk::Bdev>> layers;
    for (size_t i = 0; i < portion.size(); ++i) {
      auto bdev = CheckExported(std::span(answers).subspan(2 * i, 2), *portion[i].row);
      portion[i].status = bdev.status();
      if (!bdev.ok() || !bdev->crypto) continue;
      requests.push_back(spdk::GetCryptoKey(bdev->crypto->key_name));
      layers.emplace_back(&portion[i], *std::move(bdev));
    }
    if (layers.empty()) continue;
    spdk::Results keys = target_.CallMany(context, requests);
    for (size_t i = 0; i < layers.size(); ++i) {
      auto& [adoption, layer] = layers[i];
      adoption->status = AdoptLayer(layer, keys[i], *adoption->row);
    }
  }
}

// Completes the row of a volume that is exported through `layer`.
absl::Status Encryption::AdoptLayer(const spdk::Bdev& layer,
                                    absl::StatusOr<jsonrpc::Json>& key_answer,
                                    record::Volume& row) const {
  const std::string name = "volume " + row.id.ToString();
  // The volume is the crypto bdev itself, and the encrypted data belong to another volume. If the
  // volume were adopted with this layer, it would be encrypted twice after a restore.
  if (layer.uuid == row.id) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is the crypto bdev {} itself: the encrypted volume is bdev {}", name,
                    layer.name, layer.crypto->base_bdev_name));
  }
  if (engine_->name() == crypto::NopEngine::kName) {
    return absl::FailedPreconditionError(name +
                                         ": is encrypted, but no crypto engine is configured");
  }
  absl::StatusOr<std::optional<spdk::CryptoKey>> key = spdk::ParseCryptoKey(key_answer);
  if (!key.ok()) return key.status();
  const auto cipher = *key ? spdk::CipherOf((*key)->cipher) : std::nullopt;
  const auto mode = *key ? spdk::TweakModeOf((*key)->tweak_mode) : std::nullopt;
  if (!cipher || !mode) {
    return absl::FailedPreconditionError(name + ": is encrypted, but its key or cipher is unknown");
  }
  absl::StatusOr<crypto::VolumeKeys> keys = KeysIn(**key);
  if (!keys.ok()) return keys.status();
  *row.params.mutable_crypto() = keys->WithoutKeys();
  row.sealed = sealer_.Seal(row.id, VolumeParameters(), &*keys);
  row.bdev_name = layer.name;
  row.layer_key = layer.crypto->key_name;
  return absl::OkStatus();
}

absl::Status Encryption::VerifyAndAdopt(const base::Context& context, const VolumeRequest& request,
                                        record::Volume& row, const std::string& exported) {
  CryptoVolume volume = CryptoVolumeOf(row);
  if (!exported.empty()) {
    absl::StatusOr<spdk::Bdev> bdev = FindExported(context, exported, row);
    if (!bdev.ok()) return bdev.status();
    if (bdev->crypto) volume.layer = bdev->name;
    if (bdev->crypto && !request.keys) {
      return absl::InvalidArgumentError("volume.crypto: missing, but the volume is encrypted");
    }
    if (!bdev->crypto && !request.keys) return absl::OkStatus();
  }
  const CryptoParams asked = request.keys ? request.keys->params() : CryptoParams();
  absl::Status status = engine_->Verify(context, volume, request.keys ? &asked : nullptr);
  if (!status.ok() || !request.keys) return status;
  auto layer = engine_->GetCryptoBdev(context, volume);
  if (!layer.ok()) return layer.status();
  if (!*layer) return DiffersError(row);
  row.bdev_name = **layer;
  *row.params.mutable_crypto() = request.params.crypto();
  row.sealed = sealer_.Seal(row.id, request.secrets, &*request.keys);
  return NoteKey(context, row);
}

// Compares the bdev that has the layer's name with the record: after the layer was removed, another
// client may have created a bdev with that name on another volume or with another key.
absl::StatusOr<Encryption::Layer> Encryption::Compare(const base::Context& context,
                                                      const record::Volume& row,
                                                      const std::string& name) {
  const VolumeCryptoParameters& ours = row.params.crypto();
  const CryptoParams method{.cipher = ours.cipher(), .tweak_mode = ours.tweak_mode()};
  const jsonrpc::Request requests[] = {spdk::GetBdev(BaseBdevName(row)), spdk::GetBdev(name),
                                       spdk::GetCryptoKey(crypto::KeyNameOf(name, method))};
  spdk::Results answers = target_.CallMany(context, requests);
  absl::StatusOr<crypto::Found> found = crypto::ParseFound(answers);
  if (!found.ok()) return found.status();
  if (!found->layer) return Layer::kMissing;
  if (!crypto::IsOnBase(*found->layer, found->base)) return Layer::kWrong;
  const std::string& key_name = found->layer->crypto->key_name;
  if (!found->key || found->key->name != key_name) {
    // A layer that another agent created also has a key with a different name.
    const jsonrpc::Request request = spdk::GetCryptoKey(key_name);
    auto key = spdk::ParseCryptoKey(answers[2] = target_.Call(context, request));
    if (!key.ok()) return key.status();
    found->key = *std::move(key);
  }
  const bool is_right = found->key && spdk::CipherOf(found->key->cipher) == ours.cipher() &&
                        spdk::TweakModeOf(found->key->tweak_mode) == ours.tweak_mode() &&
                        HasKeysOf(row, *found->key);
  return is_right ? Layer::kRight : Layer::kWrong;
}

// A layer of another agent is the volume's only if the record says so: one that appeared while the
// volume's own was missing, for example after a restart of the target, stays that agent's even if
// it has the volume's keys. An adopted layer may have been recreated under the agent's own name.
absl::StatusOr<Encryption::Layer> Encryption::FindLayer(const base::Context& context,
                                                        record::Volume& row) {
  const CryptoVolume volume = CryptoVolumeOf(row);
  if (engine_->name() != crypto::BdevCryptoEngine::kName) {
    auto layer = engine_->GetCryptoBdev(context, volume);
    if (!layer.ok()) return layer.status();
    if (!*layer) return Layer::kMissing;
    row.bdev_name = **layer;
    return Layer::kRight;
  }
  std::vector<std::string> names{crypto::BdevCryptoEngine::NameOf(row.id)};
  if (!volume.layer.empty() && volume.layer != names[0]) names.insert(names.begin(), volume.layer);
  for (const std::string& name : names) {
    absl::StatusOr<Layer> layer = Compare(context, row, name);
    if (layer.ok() && *layer == Layer::kRight) row.bdev_name = name;
    if (!layer.ok() || *layer != Layer::kMissing) return layer;
  }
  return Layer::kMissing;
}

absl::Status Encryption::Restore(const base::Context& context, record::Volume& row,
                                 bool& may_export) {
  may_export = true;
  if (!row.params.has_crypto()) return absl::OkStatus();
  const std::string name = "volume " + row.id.ToString();
  if (engine_->name() == crypto::NopEngine::kName) {
    return absl::UnimplementedError(name + ": is encrypted, but no crypto engine is configured");
  }
  absl::StatusOr<Layer> layer = FindLayer(context, row);
  may_export = layer.ok() && *layer != Layer::kWrong;
  if (!layer.ok()) return layer.status();
  if (*layer == Layer::kRight) return absl::OkStatus();
  absl::StatusOr<crypto::VolumeKeys> keys =
      sealer_.OpenKeys(row.id, row.sealed, row.params.crypto());
  if (!keys.ok()) {
    return absl::FailedPreconditionError(fmt::format("{}: must be attached again with its key: {}",
                                                     name, std::string(keys.status().message())));
  }
  auto base = spdk::FindBdev(target_, context, BaseBdevName(row), std::chrono::nanoseconds(0));
  if (!base.ok()) return base.status();
  if (!*base) return absl::NotFoundError(name + ": was not found on the target");
  const Outcome made = RecreateLayer(context, *keys, row);
  may_export |= made.ok();
  return made.status();
}

absl::StatusOr<std::string> Encryption::FindBdevName(const base::Context& context,
                                                     const record::Volume& row) {
  if (!row.params.has_crypto()) return row.bdev_name;
  auto layer = removal_engine().GetCryptoBdev(context, CryptoVolumeOf(row));
  if (!layer.ok()) return layer.status();
  // An attach that did not finish has left nothing on a layer that another agent created.
  const bool is_made_here = removal_engine().name() == crypto::BdevCryptoEngine::kName;
  const bool is_others =
      is_made_here && *layer && **layer != crypto::BdevCryptoEngine::NameOf(row.id);
  return is_others ? row.bdev_name : layer->value_or(row.bdev_name);
}

std::vector<jsonrpc::Request> Encryption::RemovalRequests(const record::Volume& row) const {
  const bool is_made_here = removal_engine().name() == crypto::BdevCryptoEngine::kName;
  if (!row.params.has_crypto() || row.bdev_name == BaseBdevName(row) || !is_made_here) return {};
  return {spdk::DeleteCryptoBdev(row.bdev_name)};
}

absl::Status Encryption::Cleanup(const base::Context& context, const record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  CryptoVolume volume = CryptoVolumeOf(row);
  // A layer of another agent does not belong to the volume until the attach has succeeded.
  if (row.state == record::VolumeState::kAttaching) volume.layer.clear();
  return removal_engine().Cleanup(context, volume);
}

}  // namespace sma::volume
