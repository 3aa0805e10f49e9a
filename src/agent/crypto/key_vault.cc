// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/key_vault.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

namespace sma::crypto {
namespace {

// Format: version, salt, fingerprint; if sealed, then the fingerprint of the sealing key, nonce,
// ciphertext, tag (NIST SP 800-38D).
constexpr char kVersion = 1;
constexpr size_t kSaltBytes = 16;
constexpr size_t kFingerprintBytes = 32;
constexpr size_t kHeadBytes = 1 + kSaltBytes + kFingerprintBytes;
constexpr size_t kKeyIdBytes = 8;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kBoxBytes = kKeyIdBytes + kNonceBytes + kTagBytes;  // without the ciphertext

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* Bytes(std::string& text, size_t at = 0) {
  return reinterpret_cast<unsigned char*>(text.data()) + at;
}

std::string Random(size_t size) {
  std::string bytes(size, '\0');
  if (RAND_bytes(Bytes(bytes), static_cast<int>(size)) != 1) std::abort();
  return bytes;
}

std::string Hmac(std::string_view key, std::string_view text) {
  std::string digest(kFingerprintBytes, '\0');
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), Bytes(text), text.size(),
           Bytes(digest), nullptr) == nullptr) {
    std::abort();
  }
  return digest;
}

std::string Fingerprint(const base::Uuid& volume_id, std::string_view salt,
                        std::string_view secret) {
  std::string text = volume_id.ToBytes().append(secret);
  std::string digest = Hmac(salt, text);
  base::WipeString(text);
  return digest;
}

std::string KeyId(const base::Secret& key) {
  return Hmac(key.bytes(), "sma sealing key").substr(0, kKeyIdBytes);
}

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

/// Encrypts or decrypts with AES-256-GCM, a nonce, and `bound` as additional authenticated data.
class Gcm {
 public:
  Gcm(std::string_view key, std::string_view nonce, std::string_view bound, bool encrypt)
      : context_(EVP_CIPHER_CTX_new()) {
    int size = 0;
    if (!context_ ||
        EVP_CipherInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr, Bytes(key), Bytes(nonce),
                          encrypt) != 1 ||
        EVP_CipherUpdate(context_.get(), nullptr, &size, Bytes(bound),
                         static_cast<int>(bound.size())) != 1) {
      std::abort();
    }
  }

  void Run(std::string_view from, unsigned char* to) {
    int size = 0;
    if (EVP_CipherUpdate(context_.get(), to, &size, Bytes(from), static_cast<int>(from.size())) !=
        1) {
      std::abort();
    }
  }
  /// Returns false if the authentication tag does not match on decryption.
  bool Finish() {
    std::array<unsigned char, EVP_MAX_BLOCK_LENGTH> none{};
    int size = 0;
    return EVP_CipherFinal_ex(context_.get(), none.data(), &size) == 1;
  }
  void Tag(int operation, unsigned char* tag) {
    if (EVP_CIPHER_CTX_ctrl(context_.get(), operation, kTagBytes, tag) != 1) std::abort();
  }

 private:
  std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context_;
};

}  // namespace

std::string KeyVault::Keep(const base::Uuid& volume_id, std::string_view secret) const {
  std::string salt = Random(kSaltBytes);
  std::string kept(1, kVersion);
  kept.append(salt).append(Fingerprint(volume_id, salt, secret));
  if (key_) kept.append(Seal(volume_id, secret));
  return kept;
}

bool KeyVault::Matches(const base::Uuid& volume_id, std::string_view kept,
                       std::string_view secret) {
  if (kept.size() < kHeadBytes || kept[0] != kVersion) return false;
  return base::SecretsEqual(kept.substr(1 + kSaltBytes, kFingerprintBytes),
                            Fingerprint(volume_id, kept.substr(1, kSaltBytes), secret));
}

std::string KeyVault::Seal(const base::Uuid& volume_id, std::string_view secret) const {
  std::string nonce = Random(kNonceBytes);
  std::string text(secret.size(), '\0');
  std::string tag(kTagBytes, '\0');
  Gcm gcm(key_->bytes(), nonce, volume_id.ToBytes(), /*encrypt=*/true);
  gcm.Run(secret, Bytes(text));
  if (!gcm.Finish()) std::abort();
  gcm.Tag(EVP_CTRL_GCM_GET_TAG, Bytes(tag));
  return KeyId(*key_).append(nonce).append(text).append(tag);
}

absl::StatusOr<base::Secret> KeyVault::Recover(const base::Uuid& volume_id,
                                               std::string_view kept) const {
  const absl::Status damaged = absl::DataLossError("the volume's keys in the record are damaged");
  if (kept.size() < kHeadBytes || kept[0] != kVersion) return damaged;
  std::string_view box = kept.substr(kHeadBytes);
  if (box.empty()) return absl::FailedPreconditionError("its keys were not sealed");
  if (!key_) return absl::FailedPreconditionError("there is no sealing key");
  if (box.size() < kBoxBytes) return damaged;
  if (box.substr(0, kKeyIdBytes) != KeyId(*key_)) {
    return absl::FailedPreconditionError("its keys were sealed with another sealing key");
  }
  std::string_view nonce = box.substr(kKeyIdBytes, kNonceBytes);
  std::string tag(box.substr(box.size() - kTagBytes));
  std::string_view text = box.substr(kKeyIdBytes + kNonceBytes, box.size() - kBoxBytes);
  std::optional<base::Secret> secret = base::Secret::Make(text.size());
  if (!secret) return absl::ResourceExhaustedError("cannot lock memory for the volume's keys");
  Gcm gcm(key_->bytes(), nonce, volume_id.ToBytes(), /*encrypt=*/false);
  gcm.Run(text, reinterpret_cast<unsigned char*>(secret->data()));
  gcm.Tag(EVP_CTRL_GCM_SET_TAG, Bytes(tag));
  if (!gcm.Finish() || !Matches(volume_id, kept, secret->bytes())) return damaged;
  return *std::move(secret);
}

}  // namespace sma::crypto
