// nvmf_create_transport, nvmf_get_transports.

#include "absl/strings/ascii.h"
#include "target/nvmf/tcp/tcp_transport.h"
#include "target/rpc/nvmf_format.h"
#include "target/rpc/nvmf_rpc.h"
#include "target/rpc/nvmf_transport_format.h"

namespace sma::target::rpc {
namespace {

using nvmf::tcp::Options;
using nvmf::tcp::TcpTransport;

constexpr uint32_t kKeepAliveUnitMs = 100;

struct TransportParams {
  std::string type;
  TargetName target;
  Options options;
  uint32_t keep_alive_granularity = Options().limits.keep_alive_granularity_ms / kKeepAliveUnitMs;
  bool dif_insert_or_strip = false;
};

bool DecodeCreate(const Json& params, TransportParams* out) {
  nvmf::TransportLimits& limits = out->options.limits;
  Options& options = out->options;
  bool decoded = Decode(
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
       // Of SPDK's own memory, timers and other transports.
       Ignored("io_unit_size"), Ignored("num_shared_buffers"), Ignored("buf_cache_size"),
       Ignored("num_cqe"), Ignored("max_srq_depth"), Ignored("no_srq"), Ignored("acceptor_backlog"),
       Ignored("acceptor_poll_rate"), Ignored("no_wr_batching"), Ignored("control_msg_num"),
       Ignored("disable_mappable_bar0"), Ignored("disable_adaptive_irq"),
       Ignored("disable_shadow_doorbells")});
  limits.keep_alive_granularity_ms = out->keep_alive_granularity * kKeepAliveUnitMs;
  return decoded && out->keep_alive_granularity <= UINT16_MAX;
}

RpcResult CreateTransport(nvmf::Target& target, const Json& params) {
  TransportParams create;
  if (!DecodeCreate(params, &create)) return InvalidParams();
  if (!create.target.is_ours()) return NoSuchTarget();
  if (absl::AsciiStrToUpper(create.type) != "TCP") {
    return InvalidParams("Invalid transport type '" + create.type + "'");
  }
  if (target.FindTransport(create.type) != nullptr) {
    return InternalError("Transport type '" + create.type + "' already exists");
  }
  // Blocks with protection information are not understood here.
  if (create.dif_insert_or_strip || !TcpTransport::IsValid(create.options)) {
    return InternalError("Transport type '" + create.type + "' create failed");
  }
  target.AddTransport(std::make_unique<TcpTransport>(target, create.options));
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
    json["iobuf_small_cache_size"] = options.iobuf_small_cache_size;
    json["iobuf_large_cache_size"] = options.iobuf_large_cache_size;
    json["zcopy"] = options.zcopy;
    json["c2h_success"] = options.c2h_success;
    json["sock_priority"] = options.sock_priority;
    json["abort_timeout_sec"] = options.abort_timeout_sec;
    json["ack_timeout"] = options.ack_timeout_ms;
    json["data_wr_pool_size"] = options.data_wr_pool_size;
    json["disable_command_passthru"] = options.disable_command_passthru;
  }
  return json;
}

void RegisterNvmfTransportRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_create_transport",
                  [&target](const Json& params) { return CreateTransport(target, params); });
  server.Register("nvmf_get_transports",
                  [&target](const Json& params) { return GetTransports(target, params); });
}

}  // namespace sma::target::rpc
