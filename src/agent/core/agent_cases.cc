#include "agent/core/agent_cases.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "agent/core/use_cases.h"

namespace sma::core {

namespace {

bool IsNamed(const absl::StatusOr<DeviceManager*>& manager) {
  return manager.ok() && *manager != nullptr && (*manager)->traits().names_devices;
}

// What a call did not find, or could not reach, in the time that it had may be there all the same.
absl::Status ForCaller(const base::Context& context, const absl::Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kCancelled:
      break;
    default:
      return error;
  }
  if (!absl::IsDeadlineExceeded(context.status())) return error;
  return absl::DeadlineExceededError(error.message());
}

}  // namespace

template <typename Response, typename Request>
absl::StatusOr<Response> AgentCases::Run(absl::StatusOr<Response> (*use_case)(Core&,
                                                                              const base::Context&,
                                                                              const Request&),
                                         const base::Context& caller, const Request& request) {
  const base::Context context =
      caller.Child(std::chrono::steady_clock::now() + core_.options.default_timeout);
  absl::StatusOr<Response> response = use_case(core_, context, request);
  if (response.ok()) return response;
  return ForCaller(context, response.status());
}

absl::StatusOr<CreateDeviceResponse> AgentCases::CreateDevice(const base::Context& context,
                                                              const CreateDeviceRequest& request) {
  return Run(&core::CreateDevice, context, request);
}

absl::StatusOr<DeleteDeviceResponse> AgentCases::DeleteDevice(const base::Context& context,
                                                              const DeleteDeviceRequest& request) {
  return Run(&core::DeleteDevice, context, request);
}

absl::StatusOr<AttachVolumeResponse> AgentCases::AttachVolume(const base::Context& context,
                                                              const AttachVolumeRequest& request) {
  return Run(&core::AttachVolume, context, request);
}

absl::StatusOr<DetachVolumeResponse> AgentCases::DetachVolume(const base::Context& context,
                                                              const DetachVolumeRequest& request) {
  return Run(&core::DetachVolume, context, request);
}

absl::StatusOr<SetQosResponse> AgentCases::SetQos(const base::Context& context,
                                                  const SetQosRequest& request) {
  return Run(&core::SetQos, context, request);
}

absl::StatusOr<GetQosCapabilitiesResponse> AgentCases::GetQosCapabilities(
    const base::Context& context, const GetQosCapabilitiesRequest& request) {
  return Run(&core::GetQosCapabilities, context, request);
}

bool AgentCases::IsPlugins(const CreateDeviceRequest& request) const {
  return IsNamed(core_.registry.ForRequest(request));
}

bool AgentCases::IsPlugins(DeviceType type) const { return IsNamed(core_.registry.ForType(type)); }

// A handle that is not in the record, and that no other type owns, such types are asked about.
bool AgentCases::IsPlugins(std::string_view handle) const {
  const auto& managers = core_.registry.managers();
  auto is_named = [](const auto& manager) { return manager->traits().names_devices; };
  if (std::none_of(managers.begin(), managers.end(), is_named)) return false;
  if (std::optional<record::Device> row = core_.record->FindDevice(handle)) {
    return IsNamed(core_.registry.ForName(row->manager));
  }
  return std::none_of(managers.begin(), managers.end(), [&](const auto& manager) {
    return !is_named(manager) && manager->OwnsHandle(handle);
  });
}

}  // namespace sma::core
