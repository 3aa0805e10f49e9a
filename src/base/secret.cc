// SPDX-License-Identifier: Apache-2.0

#include "base/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstring>
#include <utility>

namespace sma::base {
namespace {

constexpr size_t kPageBytes = 4096;

}  // namespace

std::optional<Secret> Secret::Make(size_t size) {
  Secret secret(nullptr, size);
  void* memory = ::mmap(nullptr, secret.mapped_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return std::nullopt;
  secret.memory_ = memory;
  if (::mlock(memory, secret.mapped_bytes()) != 0) return std::nullopt;
  ::madvise(memory, secret.mapped_bytes(), MADV_DONTDUMP);
  return secret;
}

std::optional<Secret> Secret::Copy(std::string_view bytes) {
  std::optional<Secret> secret = Make(bytes.size());
  if (secret) std::memcpy(secret->data(), bytes.data(), bytes.size());
  return secret;
}

Secret::Secret(Secret&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    memory_ = std::exchange(other.memory_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Secret::Wipe() {
  if (memory_ == nullptr) return;
  OPENSSL_cleanse(memory_, size_);
  ::munmap(memory_, mapped_bytes());
}

size_t Secret::mapped_bytes() const { return (size_ + kPageBytes) / kPageBytes * kPageBytes; }

void WipeString(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

bool SecretsEqual(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void ForbidCoreDumps() { ::prctl(PR_SET_DUMPABLE, 0); }

}  // namespace sma::base
