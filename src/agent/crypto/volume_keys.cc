// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/volume_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace sma::crypto {
namespace {

constexpr char kSeparator = ':';
constexpr size_t kMaxKeyDigits = 1024;

bool IsHexDigit(char c) {
  c = base::ToLower(c);
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

absl::Status CheckKey(const char* field, std::string_view key) {
  if (key.size() <= kMaxKeyDigits && key.size() % 2 == 0 &&
      std::all_of(key.begin(), key.end(), IsHexDigit)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("volume.crypto.{}: not an even number of hex digits", field));
}

}  // namespace

absl::StatusOr<VolumeKeys> VolumeKeys::FromRequest(const VolumeCryptoParameters& params) {
  if (!VolumeCryptoParameters::Cipher_IsValid(params.cipher())) {
    return absl::InvalidArgumentError("volume.crypto.cipher: unknown");
  }
  if (!VolumeCryptoParameters::TweakMode_IsValid(params.tweak_mode())) {
    return absl::InvalidArgumentError("volume.crypto.tweak_mode: unknown");
  }
  if (params.key().empty()) return absl::InvalidArgumentError("volume.crypto.key: missing");
  absl::Status status = CheckKey("key", params.key());
  if (status.ok()) status = CheckKey("key2", params.key2());
  if (!status.ok()) return status;
  std::optional<base::Secret> text =
      base::Secret::Make(params.key().size() + 1 + params.key2().size());
  if (!text) return absl::ResourceExhaustedError("cannot lock memory for the volume's keys");
  auto lower = [](char c) { return base::ToLower(c); };
  char* to = std::transform(params.key().begin(), params.key().end(), text->data(), lower);
  *to++ = kSeparator;
  std::transform(params.key2().begin(), params.key2().end(), to, lower);
  return VolumeKeys(params, *std::move(text), params.key().size());
}

absl::StatusOr<VolumeKeys> VolumeKeys::FromSecret(const VolumeCryptoParameters& params,
                                                  std::string_view secret) {
  size_t separator = secret.find(kSeparator);
  if (separator == std::string_view::npos) {
    return absl::DataLossError("the volume's keys in the record are damaged");
  }
  std::optional<base::Secret> text = base::Secret::Copy(secret);
  if (!text) return absl::ResourceExhaustedError("cannot lock memory for the volume's keys");
  return VolumeKeys(params, *std::move(text), separator);
}

CryptoParams VolumeKeys::params() const {
  return {.cipher = cipher_,
          .tweak_mode = tweak_mode_,
          .key = text_.bytes().substr(0, key_size_),
          .key2 = text_.bytes().substr(key_size_ + 1)};
}

VolumeCryptoParameters VolumeKeys::WithoutKeys() const {
  VolumeCryptoParameters params;
  params.set_cipher(cipher_);
  params.set_tweak_mode(tweak_mode_);
  return params;
}

}  // namespace sma::crypto
