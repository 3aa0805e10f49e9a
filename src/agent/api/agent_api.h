// SPDX-License-Identifier: Apache-2.0

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

namespace sma::api {

/// Whom a call may have to wait for, besides the target.
struct Neighbour {
  std::string name;       // of a storage node, VM, plugin or device; empty: nobody
  bool is_local = false;  // the call concerns a device that depends only on the target
};

/// The published service without its transport: called by the gRPC server, implemented by the core.
///
/// Each method may block and may be called from many threads at once. It returns soon after
/// `context` ends, with CANCELLED or DEADLINE_EXCEEDED, after rolling back any changes. The caller
/// does not validate requests: they may contain anything that a client can send. The code and
/// message of an error are returned to the client unchanged. The contract of each method is in
/// proto/sma.proto.
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

  /// Returns true if a call concerns a device of a type that may itself be slow or hang. The
  /// transport runs such calls in threads of their own, so that they never delay other calls.
  /// Called before each call, in a thread of the transport; must not block.
  virtual bool IsPlugins(const CreateDeviceRequest& /*request*/) const { return false; }
  virtual bool IsPlugins(std::string_view /*handle*/) const { return false; }
  virtual bool IsPlugins(DeviceType /*type*/) const { return false; }

  /// Returns the neighbour that a call may have to wait for: a storage node, a VM, or a plugin, or
  /// the device itself if there is no other. Calls that may wait for the same neighbour share a
  /// limited number of threads, and so do all calls that are not local, so that neighbours that
  /// hang do not delay the other calls. Called under the same conditions as IsPlugins.
  virtual Neighbour NeighbourOf(const CreateDeviceRequest& /*request*/) const { return {}; }
  virtual Neighbour NeighbourOf(const DeleteDeviceRequest& /*request*/) const { return {}; }
  virtual Neighbour NeighbourOf(const AttachVolumeRequest& /*request*/) const { return {}; }
  virtual Neighbour NeighbourOf(const DetachVolumeRequest& /*request*/) const { return {}; }
  virtual Neighbour NeighbourOf(const SetQosRequest& /*request*/) const { return {}; }
};

/// Receives the events of a watch. Called from any thread, but never from two at once; must not
/// block and must not destroy its own Subscription.
using WatchSink = std::function<void(std::shared_ptr<const admin::v1::WatchResponse>)>;

/// A watch that lasts as long as this object exists. Once the destructor has returned, the sink is
/// not running and is not called again.
class Subscription {
 public:
  virtual ~Subscription() = default;

  /// Returns the next part of the initial state, or null after the last one. The watcher receives
  /// all parts before the events that were given to the sink. Called by one thread at a time,
  /// whenever the watcher can take a message. Does not block.
  virtual std::shared_ptr<const admin::v1::WatchResponse> NextInitial() { return nullptr; }
};

/// The admin service without its transport. The rules of Agent apply; the contract of each method
/// is in proto/sma_admin.proto.
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

  /// Begins a watch. `sink` receives the changes from now on; the subscription returns the initial
  /// state, if requested, followed by the `synced` message. Does not block.
  virtual absl::StatusOr<std::unique_ptr<Subscription>> Watch(
      const admin::v1::WatchRequest& request, WatchSink sink) = 0;
};

}  // namespace sma::api
