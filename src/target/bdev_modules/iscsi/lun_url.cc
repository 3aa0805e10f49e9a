#include "target/bdev_modules/iscsi/lun_url.h"

#include <iscsi/iscsi.h>

#include <charconv>
#include <memory>
#include <string_view>

#include "base/ip_address.h"

namespace sma::target::bdev_iscsi {
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

// "ADDRESS", "ADDRESS:PORT", "[ADDRESS]" or "[ADDRESS]:PORT".
bool IsPortal(std::string_view portal) {
  std::string_view host = portal;
  std::string_view rest;
  if (portal.starts_with('[')) {
    size_t bracket = portal.find(']');
    if (bracket == std::string_view::npos) return false;
    host = portal.substr(1, bracket - 1);
    rest = portal.substr(bracket + 1);
  } else if (size_t colon = portal.find(':'); colon != std::string_view::npos) {
    host = portal.substr(0, colon);
    rest = portal.substr(colon);
  }
  auto address = base::IpAddress::Parse(host);
  if (!address || address->is_v6() != portal.starts_with('[')) return false;
  return rest.empty() || (rest.front() == ':' && IsPort(rest.substr(1)));
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

std::string LunUrl::ToString() const {
  return "iscsi://" + portal + "/" + target + "/" + std::to_string(lun);
}

}  // namespace sma::target::bdev_iscsi
