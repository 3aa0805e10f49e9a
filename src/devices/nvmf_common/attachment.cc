// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/attachment.h"

#include <fmt/format.h>

#include <charconv>

namespace sma::nvmf_common {

Attachment Attachment::Parse(const std::string& text) {
  Attachment attachment;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, attachment.nsid);
  if (error != std::errc() || (rest != end && *rest != ' ')) return {};
  if (rest != end) attachment.bdev_name.assign(rest + 1, end);
  return attachment;
}

std::string Attachment::ToString() const { return fmt::format("{} {}", nsid, bdev_name); }

}  // namespace sma::nvmf_common
