#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "base/secret.h"
#include "sma/crypto_engine.h"

namespace sma::crypto {

/// The crypto parameters of a volume, checked, with keys in memory that is wiped. Movable.
class VolumeKeys {
 public:
  /// From a request. INVALID_ARGUMENT: no key, a key that is not hex digits, or a cipher or tweak
  /// mode that the protocol does not have. What an engine can do is the engine's to check.
  static absl::StatusOr<VolumeKeys> FromRequest(const VolumeCryptoParameters& params);

  /// From what secret() has given, and the parameters without keys as the record has them.
  /// DATA_LOSS: it is nothing that secret() gives.
  static absl::StatusOr<VolumeKeys> FromSecret(const VolumeCryptoParameters& params,
                                               std::string_view secret);

  /// Valid as long as this is.
  CryptoParams params() const;

  /// Both keys in one; equal for equal keys, in whatever case they were written.
  std::string_view secret() const { return text_.bytes(); }

  /// What the record may keep: no keys.
  VolumeCryptoParameters WithoutKeys() const;

 private:
  VolumeKeys(const VolumeCryptoParameters& params, base::Secret text, size_t key_size)
      : cipher_(params.cipher()),
        tweak_mode_(params.tweak_mode()),
        text_(std::move(text)),
        key_size_(key_size) {}

  VolumeCryptoParameters::Cipher cipher_;
  VolumeCryptoParameters::TweakMode tweak_mode_;
  base::Secret text_;  // key, ':', key2
  size_t key_size_;
};

}  // namespace sma::crypto
