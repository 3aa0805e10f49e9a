// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <limits>
#include <memory>
#include <optional>

#include "base/uuid.h"
#include "cli/admin_text.h"
#include "cli/commands.h"
#include "cli/limits.h"
#include "cli/output.h"
#include "cli/units.h"
#include "cli/volume_options.h"
#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

using Capabilities = sma::GetQosCapabilitiesResponse::QosCapabilities;

constexpr uint64_t kKeep = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kIopsStep = 1000;              // QosLimit counts thousands
constexpr uint64_t kBandwidthStep = 1024 * 1024;  // QosLimit counts MiB

// One field of QosLimit, with its option and its accessors.
struct Limit {
  const char* name;  // as in the options
  const char* options;
  const char* help;
  bool bandwidth;
  uint64_t (sma::QosLimit::*get)() const;
  void (sma::QosLimit::*set)(uint64_t);
  bool (Capabilities::*supported)() const;
};

constexpr Limit kLimits[] = {
    {"rd-iops", "--rd-iops,--read-iops", "Reads per second", false, &sma::QosLimit::rd_iops,
     &sma::QosLimit::set_rd_iops, &Capabilities::rd_iops},
    {"wr-iops", "--wr-iops,--write-iops", "Writes per second", false, &sma::QosLimit::wr_iops,
     &sma::QosLimit::set_wr_iops, &Capabilities::wr_iops},
    {"rw-iops", "--rw-iops", "Reads and writes per second", false, &sma::QosLimit::rw_iops,
     &sma::QosLimit::set_rw_iops, &Capabilities::rw_iops},
    {"rd-bw", "--rd-bw,--read-bw", "Bytes read per second", true, &sma::QosLimit::rd_bandwidth,
     &sma::QosLimit::set_rd_bandwidth, &Capabilities::rd_bandwidth},
    {"wr-bw", "--wr-bw,--write-bw", "Bytes written per second", true, &sma::QosLimit::wr_bandwidth,
     &sma::QosLimit::set_wr_bandwidth, &Capabilities::wr_bandwidth},
    {"rw-bw", "--rw-bw", "Bytes read and written per second", true, &sma::QosLimit::rw_bandwidth,
     &sma::QosLimit::set_rw_bandwidth, &Capabilities::rw_bandwidth},
};
constexpr size_t kLimitCount = std::size(kLimits);

struct QosArguments {
  std::string handle;
  std::optional<std::string> volume;
  std::string device_type;
  std::optional<std::string> limits[kLimitCount];
};

using SharedQosArguments = std::shared_ptr<QosArguments>;

// Returns the value of `text` in the unit of QosLimit; 0 is unlimited.
absl::StatusOr<uint64_t> ParseLimit(const Limit& limit, const std::string& text) {
  if (text == "unlimited") return 0;
  absl::StatusOr<uint64_t> value = limit.bandwidth ? ParseBytes(text) : ParseCount(text);
  if (!value.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("--{}: {}", limit.name, std::string(value.status().message())));
  }
  const uint64_t step = limit.bandwidth ? kBandwidthStep : kIopsStep;
  if (*value % step != 0) {
    return absl::InvalidArgumentError(
        fmt::format("--{}: '{}' is not a multiple of {}", limit.name, text,
                    limit.bandwidth ? "1M (1 MiB/s)" : "1k (1000 I/Os per second)"));
  }
  return *value / step;
}

std::string FormatLimit(const Limit& limit, uint64_t value) {
  if (value == 0) return "unlimited";
  return fmt::format("{}{}", value, limit.bandwidth ? "M" : "k");
}

absl::Status Set(Session& session, const QosArguments& arguments) {
  sma::SetQosRequest request;
  request.set_device_handle(arguments.handle);
  if (arguments.volume) {
    absl::StatusOr<std::string> id = ParseVolumeId(*arguments.volume);
    if (!id.ok()) return id.status();
    request.set_volume_id(*id);
  }
  bool any = false;
  for (size_t i = 0; i < kLimitCount; ++i) {
    uint64_t value = kKeep;
    if (arguments.limits[i]) {
      absl::StatusOr<uint64_t> parsed = ParseLimit(kLimits[i], *arguments.limits[i]);
      if (!parsed.ok()) return parsed.status();
      value = *parsed;
      any = true;
    }
    (request.mutable_maximum()->*kLimits[i].set)(value);
  }
  if (!any) return absl::InvalidArgumentError("no limit was given; use for example --rw-iops 5k");
  sma::SetQosResponse response;
  return session.CallAndPrint(
      "SetQos", request, &response,
      fmt::format("limits of {} set", arguments.volume.value_or(arguments.handle)));
}

absl::Status Get(Session& session, const QosArguments& arguments) {
  sma::QosLimit limits;
  absl::Status status;
  if (arguments.volume) {
    absl::StatusOr<std::string> id = ParseVolumeId(*arguments.volume);
    if (!id.ok()) return id.status();
    sma::admin::v1::GetVolumeRequest request;
    request.set_volume_id(*id);
    sma::admin::v1::Volume volume;
    status = session.Call("/sma.admin.v1.Admin/GetVolume", request, &volume);
    if (status.ok() && volume.device_handle() != arguments.handle) {
      return absl::InvalidArgumentError(
          fmt::format("volume {} is attached to {}", *arguments.volume, volume.device_handle()));
    }
    limits = volume.qos();
  } else {
    sma::admin::v1::GetDeviceRequest request;
    request.set_handle(arguments.handle);
    sma::admin::v1::Device device;
    status = session.Call("/sma.admin.v1.Admin/GetDevice", request, &device);
    limits = device.qos();
  }
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(limits);
  Table table({"LIMIT", "PER SECOND"});
  for (const Limit& limit : kLimits) {
    table.Add({limit.name, FormatLimit(limit, (limits.*limit.get)())});
  }
  table.Print(session.streams.out);
  return absl::OkStatus();
}

absl::Status GetCapabilities(Session& session, const QosArguments& arguments) {
  absl::StatusOr<sma::DeviceType> type = ParseDeviceType(arguments.device_type);
  if (!type.ok()) return type.status();
  sma::GetQosCapabilitiesRequest request;
  request.set_device_type(*type);
  sma::GetQosCapabilitiesResponse response;
  absl::Status status =
      session.Call("/sma.StorageManagementAgent/GetQosCapabilities", request, &response);
  if (!status.ok()) return status;
  if (session.options.json) return session.PrintJson(response);
  Table table({"LIMIT", "DEVICE", "VOLUME"});
  for (const Limit& limit : kLimits) {
    auto cell = [&](const Capabilities& caps) { return (caps.*limit.supported)() ? "yes" : "no"; };
    table.Add({limit.name, cell(response.max_device_caps()), cell(response.max_volume_caps())});
  }
  table.Print(session.streams.out);
  return absl::OkStatus();
}

void AddTarget(CLI::App& command, const SharedQosArguments& arguments) {
  AddHandle(command, arguments->handle);
  command.add_option("volume", arguments->volume, "Id of the volume; default: the whole device")
      ->type_name("UUID");
}

void AddSet(CLI::App& qos, Session& session, const SharedQosArguments& arguments) {
  CLI::App* command = qos.add_subcommand(
      "set", "Limit the I/O of a volume or device; limits that are not given do not change");
  AddTarget(*command, arguments);
  for (size_t i = 0; i < kLimitCount; ++i) {
    command
        ->add_option(kLimits[i].options, arguments->limits[i],
                     fmt::format("{} ({}), or unlimited", kLimits[i].help,
                                 kLimits[i].bandwidth ? "200M is 200 MiB" : "5k is 5000"))
        ->type_name("N");
  }
  SetAction(*command, session, arguments, &Set);
  command->footer(R"(Examples:
  smactl qos set nvmf-tcp:nqn.2024-01.com.example:disk1 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01 \
      --rw-iops 5k --read-bw 200M
  smactl qos set HANDLE --rw-bw unlimited)");
}

}  // namespace

void AddLimits(const sma::QosLimit& limits, Properties& properties) {
  for (const Limit& limit : kLimits) {
    const uint64_t value = (limits.*limit.get)();
    if (value != 0) properties.Add(limit.name, FormatLimit(limit, value));
  }
}

void AddQosCommands(CLI::App& app, Session& session) {
  CLI::App* qos = app.add_subcommand("qos", "Set and show I/O limits (quality of service)");
  qos->require_subcommand(1);
  auto arguments = std::make_shared<QosArguments>();
  AddSet(*qos, session, arguments);

  CLI::App* get = qos->add_subcommand("get", "Show the limits of a volume or a device");
  AddTarget(*get, arguments);
  SetAction(*get, session, arguments, &Get);
  get->footer(R"(Examples:
  smactl qos get nvmf-tcp:nqn.2024-01.com.example:disk1 8f0c3a52-12c8-4f2e-8c43-5f0d5e7d9a01
  smactl qos get HANDLE)");

  CLI::App* capabilities =
      qos->add_subcommand("capabilities", "Show the limits that a device type supports");
  capabilities->add_option("device-type", arguments->device_type, DeviceTypeNames())
      ->required()
      ->type_name("TYPE");
  SetAction(*capabilities, session, arguments, &GetCapabilities);
  capabilities->footer(R"(Examples:
  smactl qos capabilities nvmf-tcp)");
}

}  // namespace sma::cli
