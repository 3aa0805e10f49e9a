// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_create_transport and nvmf_get_transports.

#include "absl/strings/ascii.h"
#include "storage_target/nvmf/tcp/tcp_transport.h"
#include "storage_target/nvmf/vfio_user/vfio_user_transport.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"
#include "storage_target/rpc/nvmf/nvmf_transport_format.h"

namespace sma::storage_target::rpc {
namespace {

using nvmf::tcp::Options;
using nvmf::tcp::TcpTransport;
using nvmf::vfio_user::VfioUserTransport;
using VfioUserOptions = nvmf::vfio_user::Options;

constexpr uint32_t kKeepAliveUnitMs = 100;

struct TransportParams {
  std::string type;
  TargetName target;
  Options options;
  uint32_t keep_alive_granularity = Options().limits.keep_alive_granularity_ms / kKeepAliveUnitMs;
  bool dif_insert_or_strip = false;
  bool disable_mappable_bar0 = !VfioUserOptions().mappable_doorbells;
  bool disable_msix = VfioUserOptions().msi;
  // The commands to hide from hosts, given as bit masks of the fields ONCS and FUSES or as lists of
  // names.
  Json masked_oncs;
  Json masked_fuses;
};

bool IsVfioUser(const std::string& type) { return absl::AsciiStrToUpper(type) == "VFIOUSER"; }

// The defaults depend on the type of the transport.
void SetDefaults(const Json& params, TransportParams* out) {
  auto type = params.is_object() ? params.find("trtype") : params.end();
  if (type == params.end() || !type->is_string() || !IsVfioUser(type->get<std::string>())) return;
  const VfioUserOptions defaults;
  out->options.limits = defaults.limits;
  out->options.iobuf_small_cache_size = defaults.iobuf_small_cache_size;
  out->options.iobuf_large_cache_size = defaults.iobuf_large_cache_size;
  out->options.abort_timeout_sec = defaults.abort_timeout_sec;
}

VfioUserOptions ToVfioUser(const TransportParams& create) {
  const Options& options = create.options;
  return {.limits = options.limits,
          .mappable_doorbells = !create.disable_mappable_bar0,
          .msi = create.disable_msix,
          .iobuf_small_cache_size = options.iobuf_small_cache_size,
          .iobuf_large_cache_size = options.iobuf_large_cache_size,
          .zcopy = options.zcopy,
          .abort_timeout_sec = options.abort_timeout_sec,
          .ack_timeout = options.ack_timeout_ms,
          .data_wr_pool_size = options.data_wr_pool_size,
          .disable_command_passthru = options.disable_command_passthru};
}

// Returns null if the options are invalid for this type.
std::unique_ptr<nvmf::Transport> MakeTransport(nvmf::Target& target,
                                               const TransportParams& create) {
  if (IsVfioUser(create.type)) {
    const VfioUserOptions options = ToVfioUser(create);
    return VfioUserTransport::IsValid(options)
               ? std::make_unique<VfioUserTransport>(target, options)
               : nullptr;
  }
  return TcpTransport::IsValid(create.options)
             ? std::make_unique<TcpTransport>(target, create.options)
             : nullptr;
}

bool DecodeCreate(const Json& params, TransportParams* out) {
  SetDefaults(params, out);
  nvmf::TransportLimits& limits = out->options.limits;
  Options& options = out->options;
  bool decoded = DecodeRelaxed(
      params,
      {Required("trtype", &out->type), TargetNameField(&out->target),
       Optional("max_queue_depth", &limits.max_queue_depth),
       Optional("max_io_qpairs_per_ctrlr", &limits.max_io_queue_pairs),
       Optional("in_capsule_data_size", &limits.in_capsule_data_size),
       Optional("max_io_size", &limits.max_io_size),
       Optional("max_aq_depth", &limits.max_admin_queue_depth),
       Optional("kas", &out->keep_alive_granularity),
       Optional("min_kato", &limits.min_keep_alive_ms),
       Optional("c2h_success", &options.c2h_success),
       Optional("dif_insert_or_strip", &out->dif_insert_or_strip),
       Optional("sock_priority", &options.sock_priority),
       Optional("ack_timeout", &options.ack_timeout_ms),
       Optional("iobuf_small_cache_size", &options.iobuf_small_cache_size),
       Optional("iobuf_large_cache_size", &options.iobuf_large_cache_size),
       Optional("zcopy", &options.zcopy), Optional("abort_timeout_sec", &options.abort_timeout_sec),
       Optional("data_wr_pool_size", &options.data_wr_pool_size),
       Optional("disable_command_passthru", &options.disable_command_passthru),
       // Options for SPDK's memory, timers and other transports.
       Ignored("io_unit_size"), Ignored("num_shared_buffers"), Ignored("buf_cache_size"),
       Ignored("num_cqe"), Ignored("max_srq_depth"), Ignored("no_srq"), Ignored("acceptor_backlog"),
       Ignored("acceptor_poll_rate"), Ignored("no_wr_batching"), Ignored("control_msg_num"),
       Optional("disable_mappable_bar0", &out->disable_mappable_bar0),
       Optional("disable_msix", &out->disable_msix), Ignored("disable_adaptive_irq"),
       Ignored("disable_shadow_doorbells"), Optional("masked_oncs", &out->masked_oncs),
       Optional("masked_fuses", &out->masked_fuses)});
  limits.keep_alive_granularity_ms = out->keep_alive_granularity * kKeepAliveUnitMs;
  return decoded && out->keep_alive_granularity <= UINT16_MAX;
}

bool MasksNothing(const Json& mask) {
  return mask.is_null() || mask == 0 || mask == Json::array() || mask == "0";
}

RpcResult CreateTransport(nvmf::Target& target, const Json& params) {
  TransportParams create;
  if (!DecodeCreate(params, &create)) return InvalidParams();
  if (!create.target.is_ours()) return NoSuchTarget();
  if (!MasksNothing(create.masked_oncs)) return NotSupported("masked_oncs");
  if (!MasksNothing(create.masked_fuses)) return NotSupported("masked_fuses");
  if (create.dif_insert_or_strip) return NotSupported("dif_insert_or_strip");
  if (absl::AsciiStrToUpper(create.type) != "TCP" && !IsVfioUser(create.type)) {
    return InvalidParams("Invalid transport type '" + create.type + "'");
  }
  if (target.FindTransport(create.type) != nullptr) {
    return InternalError("Transport type '" + create.type + "' already exists");
  }
  std::unique_ptr<nvmf::Transport> transport = MakeTransport(target, create);
  if (transport == nullptr) {
    return InternalError("Transport type '" + create.type + "' create failed");
  }
  target.AddTransport(std::move(transport));
  return Json(true);
}

RpcResult GetTransports(nvmf::Target& target, const Json& params) {
  std::optional<std::string> type;
  TargetName name;
  if (!Decode(params, {Optional("trtype", &type), TargetNameField(&name)})) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  if (type && target.FindTransport(*type) == nullptr) return ErrnoError(ENODEV);
  Json list = Json::array();
  for (const auto& transport : target.transports()) {
    if (!type || transport.get() == target.FindTransport(*type))
      list.push_back(FormatTransport(*transport));
  }
  return list;
}

// Formats the options that both types have in common.
template <typename T>
void FormatShared(const T& options, Json& json) {
  json["iobuf_small_cache_size"] = options.iobuf_small_cache_size;
  json["iobuf_large_cache_size"] = options.iobuf_large_cache_size;
  json["zcopy"] = options.zcopy;
  json["abort_timeout_sec"] = options.abort_timeout_sec;
  json["data_wr_pool_size"] = options.data_wr_pool_size;
  json["disable_command_passthru"] = options.disable_command_passthru;
}

}  // namespace

Json FormatTransport(const nvmf::Transport& transport) {
  const nvmf::TransportLimits& limits = transport.limits();
  Json json = {{"trtype", transport.type()},
               {"max_queue_depth", limits.max_queue_depth},
               {"max_io_qpairs_per_ctrlr", limits.max_io_queue_pairs},
               {"in_capsule_data_size", limits.in_capsule_data_size},
               {"max_io_size", limits.max_io_size},
               {"max_aq_depth", limits.max_admin_queue_depth},
               {"dif_insert_or_strip", false},
               {"kas", limits.keep_alive_granularity_ms / kKeepAliveUnitMs},
               {"min_kato", limits.min_keep_alive_ms}};
  if (const auto* tcp = dynamic_cast<const TcpTransport*>(&transport)) {
    const Options& options = tcp->options();
    FormatShared(options, json);
    json["c2h_success"] = options.c2h_success;
    json["sock_priority"] = options.sock_priority;
    json["ack_timeout"] = options.ack_timeout_ms;
  }
  if (const auto* vfio_user = dynamic_cast<const VfioUserTransport*>(&transport)) {
    FormatShared(vfio_user->options(), json);
    json["ack_timeout"] = vfio_user->options().ack_timeout;
  }
  return json;
}

Json FormatTransportParams(const nvmf::Transport& transport) {
  Json params = FormatTransport(transport);
  if (const auto* vfio_user = dynamic_cast<const VfioUserTransport*>(&transport)) {
    params["disable_mappable_bar0"] = !vfio_user->options().mappable_doorbells;
    params["disable_msix"] = vfio_user->options().msi;
  }
  return params;
}

void RegisterNvmfTransportRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_create_transport",
                  [&target](const Json& params) { return CreateTransport(target, params); });
  server.Register("nvmf_get_transports",
                  [&target](const Json& params) { return GetTransports(target, params); });
}

}  // namespace sma::storage_target::rpc
