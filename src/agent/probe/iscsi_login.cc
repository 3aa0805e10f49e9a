// SPDX-License-Identifier: Apache-2.0

#include "agent/probe/iscsi_login.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

namespace sma::probe {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Free {
  void operator()(iscsi_context* context) const { ::iscsi_destroy_context(context); }
};

// Status-Class and Status-Detail, RFC 7143 §11.13.5.
constexpr int kAuthenticationFailure = 0x0201;
constexpr int kAuthorizationFailure = 0x0202;
constexpr int kNotFound = 0x0203;

void OnLogin(iscsi_context* /*context*/, int status, void* /*data*/, void* result) {
  *static_cast<std::optional<bool>*>(result) = status == SCSI_STATUS_GOOD;
}

// libiscsi appends the status to its error text: "... Status: Target not found(515)".
LoginAnswer LoginAnswerOf(std::string_view error) {
  const size_t open = error.rfind('(');
  int status = 0;
  if (open == std::string_view::npos) return LoginAnswer::kUnknown;
  std::from_chars(error.data() + open + 1, error.data() + error.size(), status);
  switch (status) {
    case kAuthenticationFailure:
      return LoginAnswer::kChapFailed;
    case kAuthorizationFailure:
      return LoginAnswer::kInitiatorRefused;
    case kNotFound:
      return LoginAnswer::kNoTarget;
    default:
      return LoginAnswer::kUnknown;
  }
}

// Serves the connection until `done` has a value, an error occurs or the deadline passes.
void Serve(iscsi_context* context, const std::optional<bool>& done, base::TimePoint deadline) {
  while (!done) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0) return;
    pollfd state{.fd = ::iscsi_get_fd(context),
                 .events = static_cast<short>(::iscsi_which_events(context)),
                 .revents = 0};
    if (::poll(&state, 1, static_cast<int>(std::min(left, milliseconds(1000)).count())) < 0) return;
    if (::iscsi_service(context, state.revents) < 0) return;
  }
}

}  // namespace

LoginAnswer ProbeIscsiLogin(const Login& login, base::TimePoint deadline) {
  const std::unique_ptr<iscsi_context, Free> context(
      ::iscsi_create_context(login.initiator_iqn.c_str()));
  if (!context) return LoginAnswer::kUnknown;
  ::iscsi_set_noautoreconnect(context.get(), 1);
  if (::iscsi_set_targetname(context.get(), login.target_iqn.c_str()) != 0 ||
      ::iscsi_set_session_type(context.get(), ISCSI_SESSION_NORMAL) != 0) {
    return LoginAnswer::kUnknown;
  }
  if (!login.chap_user.empty() &&
      ::iscsi_set_initiator_username_pwd(context.get(), login.chap_user.c_str(),
                                         login.chap_secret) != 0) {
    return LoginAnswer::kUnknown;
  }
  std::optional<bool> result;
  if (::iscsi_connect_async(context.get(), login.portal.c_str(), OnLogin, &result) != 0) {
    return LoginAnswer::kUnknown;
  }
  Serve(context.get(), result, deadline);
  if (!result.value_or(false)) return LoginAnswer::kUnknown;
  result.reset();
  if (::iscsi_login_async(context.get(), OnLogin, &result) != 0) return LoginAnswer::kUnknown;
  Serve(context.get(), result, deadline);
  if (result.value_or(false)) return LoginAnswer::kAccepted;
  return LoginAnswerOf(::iscsi_get_error(context.get()));
}

}  // namespace sma::probe
