#pragma once

#include <cstdint>
#include <string>

namespace sma::nvmf_common {

/// What the agent records as the attachment of a volume that is a namespace: "NSID BDEV", or "NSID"
/// in records of earlier versions.
struct Attachment {
  uint32_t nsid = 0;        // 0: not known
  std::string bdev_name{};  // the target's own name of the exported bdev; empty: not known

  /// A text of another form gives an attachment of which nothing is known.
  static Attachment Parse(const std::string& text);
  std::string ToString() const;
};

}  // namespace sma::nvmf_common
