#pragma once

#include <optional>
#include <string>

namespace sma::target::bdev_iscsi {

/// Where a logical unit is, and as whom to log in there.
struct LunUrl {
  /// A name and its secret (RFC 7143 §12.1.3). No secret may reach a log or a saved configuration.
  struct Chap {
    std::string name;
    std::string secret;
  };

  std::string portal;  // "ADDRESS[:PORT]", "[ADDRESS][:PORT]" for IPv6
  std::string target;  // its iSCSI name
  int lun = 0;
  std::optional<Chap> initiator_chap;  // we show that we are who we say
  std::optional<Chap> target_chap;     // the target does

  /// From libiscsi's form, iscsi://[NAME[%SECRET]@]ADDRESS[:PORT]/TARGET/LUN, with
  /// ?target_user=NAME&target_password=SECRET for the other direction. nullopt for anything else,
  /// also for a host name, whose look-up would block, and for iSER.
  static std::optional<LunUrl> Parse(const std::string& text);

  /// The same without names and secrets.
  std::string ToString() const;
};

}  // namespace sma::target::bdev_iscsi
