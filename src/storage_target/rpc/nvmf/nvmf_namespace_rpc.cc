// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_subsystem_add_ns and nvmf_subsystem_remove_ns.

#include <algorithm>

#include "base/hex.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
namespace {

// Decodes hex digits into `out`; they must give exactly as many bytes as `out` has.
template <size_t N>
bool DecodeHex(const std::string& digits, std::array<uint8_t, N>& out) {
  auto bytes = base::HexDecode(digits);
  if (!bytes || bytes->size() != N) return false;
  std::copy(bytes->begin(), bytes->end(), out.begin());
  return true;
}

// Without ANA reporting, all groups are in the same state. SPDK has as many groups as namespaces.
constexpr uint32_t kMaxAnaGroups = 1024;

// Returns an error, or nullopt if all parameters are valid.
std::optional<RpcError> DecodeNamespace(const Json& value, nvmf::NamespaceOptions* out) {
  std::optional<std::string> nguid, eui64, ptpl_file;
  uint32_t ana_group = 1;
  bool no_auto_visible = false;
  bool decoded = Decode(
      value, {Required("bdev_name", &out->bdev_name), Optional("nsid", &out->nsid),
              Optional("uuid", &out->uuid), Optional("nguid", &nguid), Optional("eui64", &eui64),
              Optional("ptpl_file", &ptpl_file), Optional("no_auto_visible", &no_auto_visible),
              Optional("anagrpid", &ana_group), Ignored("hide_metadata")});
  if (!decoded || ana_group == 0 || ana_group > kMaxAnaGroups) return InvalidParams();
  if (ptpl_file) return NotSupported("ptpl_file");
  if (no_auto_visible) return NotSupported("no_auto_visible");
  std::array<uint8_t, base::Uuid::kSize> nguid_bytes{};
  if (nguid && !DecodeHex(*nguid, nguid_bytes)) return InvalidParams();
  out->nguid = base::Uuid(nguid_bytes);
  if (eui64 && !DecodeHex(*eui64, out->eui64)) return InvalidParams();
  return std::nullopt;
}

void AddNamespace(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn;
  TargetName name;
  Json described;
  nvmf::NamespaceOptions options;
  bool decoded = DecodeRelaxed(
      params, {Required("nqn", &nqn), Required("namespace", &described), TargetNameField(&name)});
  if (!decoded) return reply(InvalidParams());
  if (auto error = DecodeNamespace(described, &options)) return reply(*error);
  WithSubsystemAsync(target, name, nqn, reply, InvalidParams(), [&](nvmf::Subsystem& subsystem) {
    if (subsystem.options().discovery) return EINVAL;
    subsystem.namespaces().Add(options, [reply](base::ErrnoOr<uint32_t> nsid) {
      if (nsid.ok()) {
        reply(Json(*nsid));
      } else {
        reply(InvalidParams());
      }
    });
    return 0;
  });
}

void RemoveNamespace(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn;
  uint32_t nsid = 0;
  TargetName name;
  bool decoded =
      Decode(params, {Required("nqn", &nqn), Required("nsid", &nsid), TargetNameField(&name)});
  if (!decoded) return reply(InvalidParams());
  WithSubsystemAsync(target, name, nqn, reply, InvalidParams(), [&](nvmf::Subsystem& subsystem) {
    return subsystem.namespaces().Remove(nsid, [reply] { reply(Json(true)); });
  });
}

}  // namespace

void RegisterNvmfNamespaceRpc(RpcServer& server, nvmf::Target& target) {
  server.RegisterAsync("nvmf_subsystem_add_ns", [&target](const Json& params, const Reply& reply) {
    AddNamespace(target, params, reply);
  });
  server.RegisterAsync("nvmf_subsystem_remove_ns",
                       [&target](const Json& params, const Reply& reply) {
                         RemoveNamespace(target, params, reply);
                       });
}

}  // namespace sma::storage_target::rpc
