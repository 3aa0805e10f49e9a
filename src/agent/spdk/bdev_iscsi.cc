// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/bdev_iscsi.h"

#include <fmt/format.h>

#include <algorithm>

namespace sma::spdk {
namespace {

// Returns a URL of the form
// iscsi://[USER%SECRET@]PORTAL/TARGET/LUN[?target_user=USER&target_password=SECRET]
std::string UrlOf(const IscsiUnit& unit) {
  std::string login;
  if (!unit.chap.user.empty()) login = fmt::format("{}%{}@", unit.chap.user, unit.chap.secret);
  std::string mutual;
  if (!unit.mutual_chap.user.empty()) {
    mutual = fmt::format("?target_user={}&target_password={}", unit.mutual_chap.user,
                         unit.mutual_chap.secret);
  }
  return fmt::format("iscsi://{}{}/{}/{}{}", login, unit.portal, unit.target_iqn, unit.lun, mutual);
}

}  // namespace

bool IsUrlSafe(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c <= '~' && std::string_view("%@/?&=#").find(c) == std::string_view::npos;
  });
}

jsonrpc::Request CreateIscsiBdev(std::string_view name, const IscsiUnit& unit,
                                 std::string_view initiator_iqn) {
  return {"bdev_iscsi_create",
          {{"name", name}, {"url", UrlOf(unit)}, {"initiator_iqn", initiator_iqn}}};
}

jsonrpc::Request DeleteIscsiBdev(std::string_view name) {
  return {"bdev_iscsi_delete", {{"name", name}}};
}

}  // namespace sma::spdk
