// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>

namespace sma::storage_target::bdev_iscsi {

/// The address of a logical unit, with the credentials for the login.
struct LunUrl {
  /// A CHAP name and secret (RFC 7143 §12.1.3). Secrets must not appear in logs or saved
  /// configurations.
  struct Chap {
    std::string name;
    std::string secret;
  };

  std::string portal;  // "ADDRESS[:PORT]", "[ADDRESS][:PORT]" for IPv6, or "NAME[:PORT]"
  std::string target;  // the target's iSCSI name
  int lun = 0;
  std::optional<Chap> initiator_chap;  // authenticates this initiator
  std::optional<Chap> target_chap;     // authenticates the target

  /// Parses libiscsi's form, iscsi://[NAME[%SECRET]@]ADDRESS[:PORT]/TARGET/LUN, with
  /// ?target_user=NAME&target_password=SECRET for the opposite direction. Returns nullopt for
  /// anything else, including iSER.
  static std::optional<LunUrl> Parse(const std::string& text);

  /// Returns the portal's host name, which must be resolved; empty if the portal is given as an
  /// address.
  std::string host_name() const;
  /// Returns the portal with `ip` in place of the host name.
  std::string PortalAt(const std::string& ip) const;

  /// Returns the URL without names and secrets.
  std::string ToString() const;
};

}  // namespace sma::storage_target::bdev_iscsi
