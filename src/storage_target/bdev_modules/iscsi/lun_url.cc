// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_url.h"

#include <iscsi/iscsi.h>

#include <charconv>
#include <memory>
#include <string_view>
#include <utility>

#include "base/host_name.h"
#include "base/ip_address.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

struct Free {
  void operator()(iscsi_context* context) const { ::iscsi_destroy_context(context); }
  void operator()(iscsi_url* url) const { ::iscsi_destroy_url(url); }
};

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

// Splits a portal into the host, including brackets, and the port with its colon.
std::pair<std::string_view, std::string_view> Split(std::string_view portal) {
  size_t end = portal.find(portal.starts_with('[') ? ']' : ':');
  if (end == std::string_view::npos) return {portal, {}};
  if (portal[end] == ']') ++end;
  return {portal.substr(0, end), portal.substr(end)};
}

// Accepts "ADDRESS", "ADDRESS:PORT", "[ADDRESS]" and "[ADDRESS]:PORT", where the address may be a
// host name.
bool IsPortal(std::string_view portal) {
  auto [host, port] = Split(portal);
  if (!port.empty() && (port.front() != ':' || !IsPort(port.substr(1)))) return false;
  if (!host.starts_with('[')) {
    auto address = base::IpAddress::Parse(host);
    return address ? !address->is_v6() : base::IsHostName(host);
  }
  if (!host.ends_with(']')) return false;
  auto address = base::IpAddress::Parse(host.substr(1, host.size() - 2));
  return address && address->is_v6();
}

std::optional<LunUrl::Chap> MakeChap(const char* name, const char* secret) {
  if (*name == '\0') return std::nullopt;
  return LunUrl::Chap{.name = name, .secret = secret};
}

}  // namespace

std::optional<LunUrl> LunUrl::Parse(const std::string& text) {
  std::unique_ptr<iscsi_context, Free> context(::iscsi_create_context("iqn.none"));
  if (!context) return std::nullopt;
  std::unique_ptr<iscsi_url, Free> url(::iscsi_parse_full_url(context.get(), text.c_str()));
  if (!url || url->transport != TCP_TRANSPORT || url->lun < 0 || !IsPortal(url->portal)) {
    return std::nullopt;
  }
  return LunUrl{.portal = url->portal,
                .target = url->target,
                .lun = url->lun,
                .initiator_chap = MakeChap(url->user, url->passwd),
                .target_chap = MakeChap(url->target_user, url->target_passwd)};
}

std::string LunUrl::host_name() const {
  std::string_view host = Split(portal).first;
  return base::IsHostName(host) ? std::string(host) : "";
}

std::string LunUrl::PortalAt(const std::string& ip) const {
  std::string address = ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
  return address.append(Split(portal).second);
}

std::string LunUrl::ToString() const {
  return "iscsi://" + portal + "/" + target + "/" + std::to_string(lun);
}

}  // namespace sma::storage_target::bdev_iscsi
