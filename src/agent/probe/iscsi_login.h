// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "base/context.h"

namespace sma::probe {

/// The response of an iSCSI portal to a login. Needed because SPDK reports every failure to connect
/// a unit as "No such device" or "Invalid argument".
enum class LoginAnswer {
  kUnknown,           // no response in time, or one not listed below
  kAccepted,          // the initiator may log in to the target
  kChapFailed,        // the target does not accept the user or secret, or requires CHAP
  kInitiatorRefused,  // the target does not allow this initiator
  kNoTarget,          // the portal has no target with that name
};

/// A login and its credentials; the secret is a view of memory that must outlive the call.
struct Login {
  std::string portal;  // "HOST:PORT", with an IPv6 address in brackets
  std::string target_iqn;
  std::string initiator_iqn;
  std::string chap_user{};  // empty: no CHAP
  const char* chap_secret = "";
};

/// Logs in and disconnects immediately (RFC 7143 §11.13.5: status classes and details). Blocks at
/// most until `deadline`.
LoginAnswer ProbeIscsiLogin(const Login& login, base::TimePoint deadline);

}  // namespace sma::probe
