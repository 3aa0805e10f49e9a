#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "jsonrpc/caller.h"

namespace sma::spdk {

/// What a CHAP side proves itself with (RFC 7143 §12.1.3); `user` empty: it does not.
struct ChapCredentials {
  std::string user;
  std::string secret;
};

/// A logical unit of an iSCSI target. Texts hold none of the characters that mean something in a
/// URL (IsUrlSafe).
struct IscsiUnit {
  std::string portal;  // ADDRESS:PORT, IPv6 in brackets
  std::string target_iqn;
  uint32_t lun = 0;
  ChapCredentials chap;         // of the initiator
  ChapCredentials mutual_chap;  // of the target
};

/// Whether libiscsi, which takes URLs apart without decoding them, reads `text` as it is.
bool IsUrlSafe(std::string_view text);

/// Makes a bdev `name`; the target gives it a UUID of its own, a new one each time. Answered when
/// it is connected or has failed. The request holds secrets.
jsonrpc::Request CreateIscsiBdev(std::string_view name, const IscsiUnit& unit,
                                 std::string_view initiator_iqn);
jsonrpc::Request DeleteIscsiBdev(std::string_view name);

}  // namespace sma::spdk
