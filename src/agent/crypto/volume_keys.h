// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "base/secret.h"
#include "sma/crypto_engine.h"

namespace sma::crypto {

/// The checked crypto parameters of a volume, with keys in memory that is wiped. Movable.
class VolumeKeys {
 public:
  /// Reads the parameters of a request. Returns INVALID_ARGUMENT if there is no key, a key is not
  /// made of hex digits, or the protocol does not define the cipher or tweak mode. The engine
  /// checks what it supports.
  static absl::StatusOr<VolumeKeys> FromRequest(const VolumeCryptoParameters& params);

  /// Restores an object from the result of secret(), and the parameters without keys from the
  /// record. Returns DATA_LOSS if `secret` is not such a result.
  static absl::StatusOr<VolumeKeys> FromSecret(const VolumeCryptoParameters& params,
                                               std::string_view secret);

  /// Returns the parameters and keys, which are valid as long as this object exists.
  CryptoParams params() const;

  /// Returns both keys as one string, which is equal for equal keys, regardless of the case of
  /// their digits.
  std::string_view secret() const { return text_.bytes(); }

  /// Returns the parameters without keys, as the record may store them.
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
