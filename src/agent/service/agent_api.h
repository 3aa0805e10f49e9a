#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::service {

/// The published service without its transport: what the gRPC server calls and the use cases
/// implement.
///
/// Every method may block, may be called from many threads at once, and ends soon after `context`
/// does, then with CANCELLED or DEADLINE_EXCEEDED and everything that the call did undone. A
/// request may hold anything a client can send. The code and message of an error go to the client
/// as they are. What each method promises stands in proto/sma.proto.
class Agent {
 public:
  virtual ~Agent() = default;

  virtual absl::StatusOr<CreateDeviceResponse> CreateDevice(const base::Context& context,
                                                            const CreateDeviceRequest& request) = 0;
  virtual absl::StatusOr<DeleteDeviceResponse> DeleteDevice(const base::Context& context,
                                                            const DeleteDeviceRequest& request) = 0;
  virtual absl::StatusOr<AttachVolumeResponse> AttachVolume(const base::Context& context,
                                                            const AttachVolumeRequest& request) = 0;
  virtual absl::StatusOr<DetachVolumeResponse> DetachVolume(const base::Context& context,
                                                            const DetachVolumeRequest& request) = 0;
  virtual absl::StatusOr<SetQosResponse> SetQos(const base::Context& context,
                                                const SetQosRequest& request) = 0;
  virtual absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context, const GetQosCapabilitiesRequest& request) = 0;

  /// Whether a call is about a device of a type that may be slow or hang by itself. Such calls
  /// never take the place of others. Asked before each call, in a thread of the transport: does not
  /// block.
  virtual bool IsPlugins(const CreateDeviceRequest& /*request*/) const { return false; }
  virtual bool IsPlugins(std::string_view /*handle*/) const { return false; }
  virtual bool IsPlugins(DeviceType /*type*/) const { return false; }

  /// Whom, besides the target, a call may have to wait for: a storage node, a virtual machine, a
  /// plugin. Calls that may wait for the same one have a part of the threads only, so that one that
  /// hangs takes no place of others. Empty: nobody. Asked as IsPlugins.
  virtual std::string NeighbourOf(const CreateDeviceRequest& /*request*/) const { return {}; }
  virtual std::string NeighbourOf(const DeleteDeviceRequest& /*request*/) const { return {}; }
  virtual std::string NeighbourOf(const AttachVolumeRequest& /*request*/) const { return {}; }
  virtual std::string NeighbourOf(const DetachVolumeRequest& /*request*/) const { return {}; }
  virtual std::string NeighbourOf(const SetQosRequest& /*request*/) const { return {}; }
};

/// Receives what a watcher asked for. Called from any thread, never from two at once; must not
/// block and must not end its own Subscription.
using WatchSink = std::function<void(std::shared_ptr<const admin::v1::WatchResponse>)>;

/// Keeps a watch going for as long as it lives. After its destructor returns the sink is not
/// running and will not be called again.
class Subscription {
 public:
  virtual ~Subscription() = default;

  /// The next piece of the initial state, which comes before all that the sink was given; null: all
  /// of it was given out. By one thread at a time, when the watcher can take it. Does not block.
  virtual std::shared_ptr<const admin::v1::WatchResponse> NextInitial() { return nullptr; }
};

/// The admin service without its transport. As for Agent; what each method promises stands in
/// proto/sma_admin.proto.
class Admin {
 public:
  virtual ~Admin() = default;

  virtual absl::StatusOr<admin::v1::ListDevicesResponse> ListDevices(
      const base::Context& context, const admin::v1::ListDevicesRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::Device> GetDevice(
      const base::Context& context, const admin::v1::GetDeviceRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::ListVolumesResponse> ListVolumes(
      const base::Context& context, const admin::v1::ListVolumesRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::Volume> GetVolume(
      const base::Context& context, const admin::v1::GetVolumeRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::Status> GetStatus(
      const base::Context& context, const admin::v1::GetStatusRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::ListPluginsResponse> ListPlugins(
      const base::Context& context, const admin::v1::ListPluginsRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::ListAdoptionCandidatesResponse> ListAdoptionCandidates(
      const base::Context& context, const admin::v1::ListAdoptionCandidatesRequest& request) = 0;
  virtual absl::StatusOr<admin::v1::Device> AdoptDevice(
      const base::Context& context, const admin::v1::AdoptDeviceRequest& request) = 0;

  /// Begins a watch: changes go to `sink` from now on; the initial state, where it is asked for,
  /// and its `synced` are given out by the subscription. Does not block.
  virtual absl::StatusOr<std::unique_ptr<Subscription>> Watch(
      const admin::v1::WatchRequest& request, WatchSink sink) = 0;
};

}  // namespace sma::service
