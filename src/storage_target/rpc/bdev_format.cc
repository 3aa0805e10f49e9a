// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/bdev_format.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace sma::storage_target::rpc {
namespace {

using bdev::Bdev;
using bdev::IoType;

// All I/O types that SPDK lists in supported_io_types.
constexpr std::array kIoTypeNames = {"read",
                                     "write",
                                     "unmap",
                                     "flush",
                                     "reset",
                                     "nvme_admin",
                                     "nvme_io",
                                     "nvme_io_md",
                                     "write_zeroes",
                                     "zcopy",
                                     "get_zone_info",
                                     "zone_management",
                                     "zone_append",
                                     "compare",
                                     "compare_and_write",
                                     "abort",
                                     "seek_hole",
                                     "seek_data",
                                     "copy",
                                     "nvme_iov_md",
                                     "nvme_nssr",
                                     "write_uncorrectable"};

bool Supports(const Bdev& bdev, std::string_view name) {
  const Bdev::Info& info = bdev.info();
  bool writable = !info.read_only;
  if (name == "read") return bdev.Supports(IoType::kRead);
  if (name == "write") return bdev.Supports(IoType::kWrite) && writable;
  if (name == "unmap") return bdev.Supports(IoType::kUnmap) && writable;
  if (name == "flush") return bdev.Supports(IoType::kFlush);
  if (name == "write_zeroes") return bdev.Supports(IoType::kWrite) && writable;
  if (name == "compare") return bdev.Supports(IoType::kCompare);
  if (name == "reset") return true;
  const auto& extra = info.extra_io_types;
  return std::find(extra.begin(), extra.end(), name) != extra.end();
}

Json FormatIoTypes(const Bdev& bdev) {
  Json types = Json::object();
  for (const char* name : kIoTypeNames) types[name] = Supports(bdev, name);
  return types;
}

}  // namespace

Json ToJson(const bdev::Value& value) {
  return std::visit(
      [](const auto& alternative) -> Json {
        using T = std::decay_t<decltype(alternative)>;
        if constexpr (std::is_same_v<T, bdev::Object>) {
          return ToJson(alternative);
        } else if constexpr (std::is_same_v<T, bdev::List>) {
          Json list = Json::array();
          for (const bdev::Value& element : alternative) list.push_back(ToJson(element));
          return list;
        } else {
          return alternative;
        }
      },
      static_cast<const bdev::Value::variant&>(value));
}

Json ToJson(const bdev::Object& object) {
  Json json = Json::object();
  for (const auto& [name, value] : object) json[name] = ToJson(value);
  return json;
}

Json ToJson(const bdev::ConfigCall& call) {
  return {{"method", call.method}, {"params", ToJson(call.params)}};
}

Json FormatLimits(const bdev::Limits& limits) {
  return {{"rw_ios_per_sec", limits.rw_ios_per_sec},
          {"rw_mbytes_per_sec", limits.rw_bytes_per_sec / kBytesPerMib},
          {"r_mbytes_per_sec", limits.r_bytes_per_sec / kBytesPerMib},
          {"w_mbytes_per_sec", limits.w_bytes_per_sec / kBytesPerMib}};
}

Json FormatBdev(const Bdev& bdev) {
  const Bdev::Info& info = bdev.info();
  std::string uuid = info.uuid.ToString();
  Json json = {{"name", info.name},
               {"aliases", uuid == info.name ? Json::array() : Json::array({uuid})},
               {"product_name", info.product_name},
               {"block_size", info.block_size},
               {"num_blocks", bdev.block_count()},
               {"preferred_write_alignment", info.write_alignment},
               {"preferred_write_granularity", info.write_granularity},
               {"optimal_write_size", info.optimal_write_size},
               {"preferred_unmap_alignment", info.unmap_alignment},
               {"preferred_unmap_granularity", info.unmap_granularity},
               {"uuid", uuid},
               {"assigned_rate_limits", FormatLimits(bdev.limits())},
               {"claimed", bdev.claimant().has_value()},
               {"zoned", false},
               {"supported_io_types", FormatIoTypes(bdev)},
               {"driver_specific", ToJson(bdev.DriverSpecific())}};
  if (info.numa_id) json["numa_id"] = *info.numa_id;
  if (bdev.claimant()) json["claim_type"] = "exclusive_write";
  return json;
}

Json FormatIoStats(const bdev::IoStats& stats) {
  Json json = {{"io_error", Json::object()}};
  if (stats.errors != 0) json["io_error"]["failed"] = stats.errors;
  auto add = [&json](const std::string& verb, const std::string& bytes_name,
                     const bdev::IoStats::PerType& type) {
    json[bytes_name] = type.bytes;
    json["num_" + verb + "_ops"] = type.ops;
    json[verb + "_latency_ticks"] = type.latency_ns;
    json["max_" + verb + "_latency_ticks"] = type.max_latency_ns;
    json["min_" + verb + "_latency_ticks"] = type.min_latency_ns;
  };
  add("read", "bytes_read", stats[IoType::kRead]);
  add("write", "bytes_written", stats[IoType::kWrite]);
  add("unmap", "bytes_unmapped", stats[IoType::kUnmap]);
  add("copy", "bytes_copied", {});
  return json;
}

}  // namespace sma::storage_target::rpc
