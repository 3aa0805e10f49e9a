#include "target/bdev_modules/crypto/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstring>
#include <utility>

namespace sma::target::bdev_modules {
namespace {

constexpr size_t kPageBytes = 4096;

}  // namespace

std::optional<Secret> Secret::Copy(std::string_view bytes) {
  Secret secret(nullptr, bytes.size());
  void* memory = ::mmap(nullptr, secret.mapped_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return std::nullopt;
  secret.memory_ = memory;
  if (::mlock(memory, secret.mapped_bytes()) != 0) return std::nullopt;
  ::madvise(memory, secret.mapped_bytes(), MADV_DONTDUMP);
  std::memcpy(memory, bytes.data(), bytes.size());
  return secret;
}

Secret::Secret(Secret&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), size_(other.size_) {}

Secret::~Secret() {
  if (memory_ == nullptr) return;
  OPENSSL_cleanse(memory_, size_);
  ::munmap(memory_, mapped_bytes());
}

size_t Secret::mapped_bytes() const { return (size_ + kPageBytes) / kPageBytes * kPageBytes; }

void ForbidCoreDumps() { ::prctl(PR_SET_DUMPABLE, 0); }

}  // namespace sma::target::bdev_modules
