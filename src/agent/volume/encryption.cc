#include "agent/volume/encryption.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "agent/crypto/bdev_crypto_engine.h"
#include "agent/crypto/nop_engine.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/crypto.h"
#include "base/secret.h"

namespace sma::volume {
namespace {

CryptoVolume CryptoVolumeOf(const record::Volume& row) {
  CryptoVolume volume{.id = row.id, .bdev_name = BaseBdevName(row)};
  if (row.params.has_crypto() && row.bdev_name != volume.bdev_name) volume.layer = row.bdev_name;
  return volume;
}

absl::Status Differs(const record::Volume& row) {
  return absl::InvalidArgumentError(
      fmt::format("volume.crypto: volume {} is attached with other parameters", row.id.ToString()));
}

}  // namespace

std::string BaseBdevName(const record::Volume& row) { return row.id.ToString(); }

absl::Status Encryption::Check(const VolumeRequest& request) const {
  return request.keys ? engine_->Check(request.keys->params()) : absl::OkStatus();
}

Outcome Encryption::Setup(const base::Context& context, const VolumeRequest& request,
                          record::Volume& row) {
  return request.keys ? Make(context, *request.keys, row) : Outcome();
}

absl::StatusOr<std::unique_ptr<BdevPlan>> Encryption::Plan(const base::Context& context,
                                                           const VolumeRequest& request,
                                                           record::Volume& row) {
  if (!request.keys) return nullptr;
  auto plan = engine_->Plan(context, CryptoVolumeOf(row), request.keys->params());
  if (plan.ok() && *plan) row.bdev_name = (*plan)->bdev_name();
  return plan;
}

Outcome Encryption::Make(const base::Context& context, const crypto::VolumeKeys& keys,
                         record::Volume& row) {
  OutcomeOr<std::string> name = engine_->Setup(context, CryptoVolumeOf(row), keys.params());
  if (name.ok()) row.bdev_name = *name;
  return name.outcome();
}

bool Encryption::IsKnownSame(const VolumeRequest& request, const record::Volume& row) const {
  if (!request.keys || !row.params.has_crypto() || !Sealer::HasKeys(row.sealed)) return false;
  const VolumeCryptoParameters& ours = row.params.crypto();
  const CryptoParams asked = request.keys->params();
  return ours.cipher() == asked.cipher && ours.tweak_mode() == asked.tweak_mode &&
         Sealer::SameKeys(row.id, row.sealed, *request.keys) &&
         !sealer_.ShouldSealAgain(row.id, row.sealed);
}

absl::Status Encryption::SetupAgain(const base::Context& context, const VolumeRequest& request,
                                    record::Volume& row) {
  if (!request.keys) return row.params.has_crypto() ? Differs(row) : absl::OkStatus();
  if (!row.params.has_crypto()) return TakeOver(context, request, row);
  if (absl::Status status = CheckKeys(context, request, row); !status.ok()) return status;
  auto layer = engine_->GetCryptoBdev(context, CryptoVolumeOf(row));
  if (!layer.ok()) return layer.status();
  if (*layer) {
    row.bdev_name = **layer;
  } else if (Outcome made = Make(context, *request.keys, row); !made.ok()) {
    return made.status();
  }
  if (sealer_.ShouldSealAgain(row.id, row.sealed)) {
    row.sealed = sealer_.Seal(row.id, request.secrets, &*request.keys);
  }
  return absl::OkStatus();
}

absl::Status Encryption::CheckKeys(const base::Context& context, const VolumeRequest& request,
                                   const record::Volume& row) {
  const VolumeCryptoParameters& ours = row.params.crypto();
  const CryptoParams asked = request.keys->params();
  if (ours.cipher() != asked.cipher || ours.tweak_mode() != asked.tweak_mode) return Differs(row);
  if (Sealer::HasKeys(row.sealed)) {
    return Sealer::SameKeys(row.id, row.sealed, *request.keys) ? absl::OkStatus() : Differs(row);
  }
  return engine_->Verify(context, CryptoVolumeOf(row), &asked);
}

// The bdev `exported`, which is the volume's own or a layer on it.
absl::StatusOr<spdk::Bdev> Encryption::FindExported(const base::Context& context,
                                                    const std::string& exported,
                                                    const record::Volume& row) {
  const jsonrpc::Request requests[] = {spdk::GetBdev(BaseBdevName(row)), spdk::GetBdev(exported)};
  const spdk::Results answers = target_.CallMany(context, requests);
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
  return absl::FailedPreconditionError(
      fmt::format("{}: its device exports bdev {}, which is neither the volume nor its encryption",
                  name, (*found)->name));
}

absl::Status Encryption::Adopt(const base::Context& context, const std::string& exported,
                               record::Volume& row) {
  absl::StatusOr<spdk::Bdev> bdev = FindExported(context, exported, row);
  if (!bdev.ok()) return bdev.status();
  if (!bdev->crypto) return absl::OkStatus();
  const std::string name = "volume " + row.id.ToString();
  if (engine_->name() == crypto::NopEngine::kName) {
    return absl::FailedPreconditionError(name +
                                         ": is encrypted, and no crypto engine is configured");
  }
  const jsonrpc::Request request = spdk::GetCryptoKey(bdev->crypto->key_name);
  spdk::Results answers = target_.CallMany(context, {&request, 1});
  absl::StatusOr<std::optional<spdk::CryptoKey>> key = spdk::ParseCryptoKey(answers[0]);
  if (!key.ok()) return key.status();
  const auto cipher = *key ? spdk::CipherOf((*key)->cipher) : std::nullopt;
  const auto mode = *key ? spdk::TweakModeOf((*key)->tweak_mode) : std::nullopt;
  if (!cipher || !mode) {
    return absl::FailedPreconditionError(name + ": is encrypted in a way that is not known");
  }
  VolumeCryptoParameters params;
  params.set_cipher(*cipher);
  params.set_tweak_mode(*mode);
  params.set_key((*key)->key);
  params.set_key2((*key)->key2);
  absl::StatusOr<crypto::VolumeKeys> keys = crypto::VolumeKeys::FromRequest(params);
  base::WipeString(*params.mutable_key());
  base::WipeString(*params.mutable_key2());
  if (!keys.ok()) return keys.status();
  *row.params.mutable_crypto() = keys->WithoutKeys();
  row.sealed = sealer_.Seal(row.id, VolumeParameters(), &*keys);
  row.bdev_name = bdev->name;
  return absl::OkStatus();
}

absl::Status Encryption::TakeOver(const base::Context& context, const VolumeRequest& request,
                                  record::Volume& row, const std::string& exported) {
  CryptoVolume volume = CryptoVolumeOf(row);
  if (!exported.empty()) {
    absl::StatusOr<spdk::Bdev> bdev = FindExported(context, exported, row);
    if (!bdev.ok()) return bdev.status();
    if (bdev->crypto) volume.layer = bdev->name;
    if (bdev->crypto && !request.keys) {
      return absl::InvalidArgumentError("volume.crypto: missing for a volume that is encrypted");
    }
    if (!bdev->crypto && !request.keys) return absl::OkStatus();
  }
  const CryptoParams asked = request.keys ? request.keys->params() : CryptoParams();
  absl::Status status = engine_->Verify(context, volume, request.keys ? &asked : nullptr);
  if (!status.ok() || !request.keys) return status;
  auto layer = engine_->GetCryptoBdev(context, volume);
  if (!layer.ok()) return layer.status();
  if (!*layer) return Differs(row);
  row.bdev_name = **layer;
  *row.params.mutable_crypto() = request.params.crypto();
  row.sealed = sealer_.Seal(row.id, request.secrets, &*request.keys);
  return absl::OkStatus();
}

absl::Status Encryption::Restore(const base::Context& context, record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  const std::string name = "volume " + row.id.ToString();
  if (engine_->name() == crypto::NopEngine::kName) {
    return absl::UnimplementedError(name +
                                    ": is encrypted, and no crypto engine is configured any more");
  }
  auto layer = engine_->GetCryptoBdev(context, CryptoVolumeOf(row));
  if (!layer.ok()) return layer.status();
  if (*layer) {
    row.bdev_name = **layer;
    return absl::OkStatus();
  }
  absl::StatusOr<crypto::VolumeKeys> keys =
      sealer_.OpenKeys(row.id, row.sealed, row.params.crypto());
  if (!keys.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("{}: has to be attached again with its key: {}", name,
                    std::string(keys.status().message())));
  }
  auto base = spdk::FindBdev(target_, context, BaseBdevName(row), std::chrono::nanoseconds(0));
  if (!base.ok()) return base.status();
  if (!*base) return absl::NotFoundError(name + ": was not found on the target");
  return Make(context, *keys, row).status();
}

absl::StatusOr<std::string> Encryption::FindBdevName(const base::Context& context,
                                                     const record::Volume& row) {
  if (!row.params.has_crypto()) return row.bdev_name;
  auto layer = engine_->GetCryptoBdev(context, CryptoVolumeOf(row));
  if (!layer.ok()) return layer.status();
  return layer->value_or(row.bdev_name);
}

std::vector<jsonrpc::Request> Encryption::RemovalRequests(const record::Volume& row) const {
  const bool is_made_here = engine_->name() == crypto::BdevCryptoEngine::kName;
  if (!row.params.has_crypto() || row.bdev_name == BaseBdevName(row) || !is_made_here) return {};
  return {spdk::DeleteCryptoBdev(row.bdev_name)};
}

absl::Status Encryption::Cleanup(const base::Context& context, const record::Volume& row) {
  if (!row.params.has_crypto()) return absl::OkStatus();
  CryptoVolume volume = CryptoVolumeOf(row);
  // A layer of another agent's is not the volume's before the attach has succeeded.
  if (row.state == record::VolumeState::kAttaching) volume.layer.clear();
  return engine_->Cleanup(context, volume);
}

}  // namespace sma::volume
