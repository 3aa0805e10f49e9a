// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>

namespace sma::nvmf_common {

/// The attachment that the agent records for a volume that is a namespace: "NSID BDEV", or "NSID"
/// in records of earlier versions.
struct Attachment {
  uint32_t nsid = 0;        // 0: unknown
  std::string bdev_name{};  // the target's name of the exported bdev; empty: unknown

  /// Returns an empty attachment if `text` has a different form.
  static Attachment Parse(const std::string& text);
  std::string ToString() const;
};

}  // namespace sma::nvmf_common
