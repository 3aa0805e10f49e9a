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

  std::string portal;  // "ADDRESS[:PORT]", "[ADDRESS][:PORT]" for IPv6, or "NAME[:PORT]"
  std::string target;  // its iSCSI name
  int lun = 0;
  std::optional<Chap> initiator_chap;  // we show that we are who we say
  std::optional<Chap> target_chap;     // the target does

  /// From libiscsi's form, iscsi://[NAME[%SECRET]@]ADDRESS[:PORT]/TARGET/LUN, with
  /// ?target_user=NAME&target_password=SECRET for the other direction. nullopt for anything else,
  /// also for iSER.
  static std::optional<LunUrl> Parse(const std::string& text);

  /// The name of the portal's host, which has to be looked up; empty: the portal has an address.
  std::string host_name() const;
  /// The same portal with `ip` in the place of its host's name.
  std::string PortalAt(const std::string& ip) const;

  /// The same without names and secrets.
  std::string ToString() const;
};

}  // namespace sma::target::bdev_iscsi
