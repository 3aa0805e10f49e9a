// nvmf_subsystem_add_ns, nvmf_subsystem_remove_ns.

#include <algorithm>

#include "base/hex.h"
#include "target/rpc/nvmf_format.h"
#include "target/rpc/nvmf_rpc.h"

namespace sma::target::rpc {
namespace {

// Exactly as many bytes as `out` has, as hex digits.
template <size_t N>
bool DecodeHex(const std::string& digits, std::array<uint8_t, N>& out) {
  auto bytes = base::HexDecode(digits);
  if (!bytes || bytes->size() != N) return false;
  std::copy(bytes->begin(), bytes->end(), out.begin());
  return true;
}

bool DecodeNamespace(const Json& value, nvmf::NamespaceOptions* out) {
  std::optional<std::string> nguid, eui64, ptpl_file;
  bool no_auto_visible = false;
  bool decoded =
      Decode(value, {Required("bdev_name", &out->bdev_name), Optional("nsid", &out->nsid),
                     Optional("uuid", &out->uuid), Optional("nguid", &nguid),
                     Optional("eui64", &eui64), Optional("ptpl_file", &ptpl_file),
                     Optional("no_auto_visible", &no_auto_visible), Ignored("anagrpid")});
  // There are no reservations to keep, and every namespace is visible.
  if (!decoded || ptpl_file || no_auto_visible) return false;
  std::array<uint8_t, base::Uuid::kSize> nguid_bytes{};
  if (nguid && !DecodeHex(*nguid, nguid_bytes)) return false;
  out->nguid = base::Uuid(nguid_bytes);
  return !eui64 || DecodeHex(*eui64, out->eui64);
}

void AddNamespace(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn;
  TargetName name;
  Json described;
  nvmf::NamespaceOptions options;
  bool decoded = Decode(
      params, {Required("nqn", &nqn), Required("namespace", &described), TargetNameField(&name)});
  if (!decoded || !DecodeNamespace(described, &options)) return reply(InvalidParams());
  WithSubsystemAsync(target, name, nqn, reply, {}, [&](nvmf::Subsystem& subsystem) {
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

}  // namespace sma::target::rpc
