// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/sealing_key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "base/hex.h"
#include "base/peer_user.h"
#include "base/unique_fd.h"

namespace sma::crypto {
namespace {

constexpr size_t kKeyBytes = 32;

absl::Status Refused(const std::string& source, std::string_view why) {
  return absl::FailedPreconditionError(fmt::format("sealing key {}: {}", source, why));
}

absl::StatusOr<base::Secret> ParseKey(const std::string& source, std::string_view text) {
  if (text.size() == kKeyBytes + 1 && text.back() == '\n') text.remove_suffix(1);
  std::string bytes(text);
  if (text.size() != kKeyBytes) {
    while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
    base::WipeString(bytes);
    bytes = base::HexDecode(text).value_or("");
  }
  bool is_sound = bytes.size() == kKeyBytes;
  std::optional<base::Secret> key = base::Secret::Copy(bytes);
  base::WipeString(bytes);
  if (!is_sound) return Refused(source, "must be 32 bytes, or 64 hex digits");
  if (!key) return Refused(source, "cannot lock memory for it");
  return *std::move(key);
}

}  // namespace

absl::StatusOr<base::Secret> SealingKeyFromFile(const std::string& path) {
  base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0) return Refused(path, std::strerror(errno));
  if (!base::IsTrustedUser(status.st_uid)) {
    return Refused(path, fmt::format("belongs to user {}, not to root or user {}", status.st_uid,
                                     ::geteuid()));
  }
  if ((status.st_mode & S_IROTH) != 0) return Refused(path, "every user can read the file");
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Refused(path, "other users may write to the file");
  }
  if (absl::Status folders = base::CheckFolders(path); !folders.ok()) {
    return Refused(path, std::string(folders.message()));
  }
  // Reads one byte more than the longest valid key, so that a longer file is detected.
  std::optional<base::Secret> text = base::Secret::Make(2 * kKeyBytes + 3);
  if (!text) return Refused(path, "cannot lock memory for it");
  ssize_t size = ::read(file.get(), text->data(), text->size());
  if (size < 0) return Refused(path, std::strerror(errno));
  return ParseKey(path, text->bytes().substr(0, static_cast<size_t>(size)));
}

absl::StatusOr<base::Secret> SealingKeyFromCredential(const std::string& name) {
  const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
  if (folder == nullptr) return Refused(name, "the service manager passed no credentials");
  return SealingKeyFromFile(std::string(folder) + "/" + name);
}

absl::StatusOr<base::Secret> SealingKeyFromEnvironment(const std::string& variable) {
  char* value = std::getenv(variable.c_str());
  if (value == nullptr) return Refused(variable, "the environment variable is not set");
  absl::StatusOr<base::Secret> key = ParseKey(variable, value);
  OPENSSL_cleanse(value, std::strlen(value));
  return key;
}

}  // namespace sma::crypto
