// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "jsonrpc/caller.h"

namespace sma::spdk {

/// The product name of bdevs that CreateIscsiBdev creates (SPDK, bdev_iscsi.c).
inline constexpr std::string_view kIscsiProductName = "iSCSI LUN";

/// CHAP credentials of one side (RFC 7143 §12.1.3); an empty `user` means no authentication.
struct ChapCredentials {
  std::string user;
  std::string secret;
};

/// A logical unit of an iSCSI target. All strings must satisfy IsUrlSafe().
struct IscsiUnit {
  std::string portal;  // ADDRESS:PORT, IPv6 in brackets
  std::string target_iqn;
  uint32_t lun = 0;
  ChapCredentials chap;         // authenticates the initiator
  ChapCredentials mutual_chap;  // authenticates the target
};

/// Returns true if `text` contains no special characters of a URL. libiscsi splits URLs without
/// decoding them.
bool IsUrlSafe(std::string_view text);

/// Creates the bdev `name`. The target generates a new UUID for it each time, and answers when the
/// bdev is connected or the connection has failed. The request contains secrets.
jsonrpc::Request CreateIscsiBdev(std::string_view name, const IscsiUnit& unit,
                                 std::string_view initiator_iqn);
jsonrpc::Request DeleteIscsiBdev(std::string_view name);

}  // namespace sma::spdk
