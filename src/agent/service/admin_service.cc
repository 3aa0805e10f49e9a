// SPDX-License-Identifier: Apache-2.0

#include "agent/service/admin_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "agent/service/event_stream.h"
#include "agent/service/grpc_status.h"

namespace sma::service {
namespace {

using admin::v1::WatchRequest;
using admin::v1::WatchResponse;

// Maximum number of changes queued for one reader.
constexpr size_t kMaxQueuedChanges = 4096;
// Adoption lists the objects of the target, which takes time.
const api::Neighbour kAdoptionLane{"adoption"};

/// The stream of one Watch call.
class WatchStream : public EventStream<WatchResponse> {
 public:
  WatchStream(const base::Context& context, InFlight::Ticket ticket, QueueBudget& budget)
      : EventStream(kMaxQueuedChanges, budget), context_(context), ticket_(std::move(ticket)) {
    callback_id_ = context_.AddCallback(
        [this] { End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the agent is stopping")); });
  }
  ~WatchStream() override { context_.RemoveCallback(callback_id_); }

  /// Blocks as long as Admin::Watch does. The caller must not use the stream afterwards.
  void Begin(api::Admin& admin, const WatchRequest& request) {
    auto subscription = admin.Watch(
        request, [this](std::shared_ptr<const WatchResponse> change) { Send(std::move(change)); });
    if (subscription.ok()) {
      subscription_ = *std::move(subscription);
    } else {
      End(ToGrpcStatus(subscription.status()));
    }
    Open();
  }

 protected:
  std::shared_ptr<const WatchResponse> NextInitial() override {
    return subscription_ ? subscription_->NextInitial() : nullptr;
  }

 private:
  const base::Context context_;
  InFlight::Ticket ticket_;
  uint64_t callback_id_ = 0;
  // Destroyed first: it ends the use of all other members.
  std::unique_ptr<api::Subscription> subscription_;
};

/// Ends a call immediately.
class RefusedWatch : public grpc::ServerWriteReactor<WatchResponse> {
 public:
  explicit RefusedWatch(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerUnaryReactor* AdminService::ListDevices(grpc::CallbackServerContext* context,
                                                    const admin::v1::ListDevicesRequest* request,
                                                    admin::v1::ListDevicesResponse* response) {
  return StartCall(environment_, *context, "Admin.ListDevices", Access::kReads, request, response,
                   std::bind_front(&api::Admin::ListDevices, &admin_));
}

grpc::ServerUnaryReactor* AdminService::GetDevice(grpc::CallbackServerContext* context,
                                                  const admin::v1::GetDeviceRequest* request,
                                                  admin::v1::Device* response) {
  return StartCall(environment_, *context, "Admin.GetDevice", Access::kReads, request, response,
                   std::bind_front(&api::Admin::GetDevice, &admin_));
}

grpc::ServerUnaryReactor* AdminService::ListVolumes(grpc::CallbackServerContext* context,
                                                    const admin::v1::ListVolumesRequest* request,
                                                    admin::v1::ListVolumesResponse* response) {
  return StartCall(environment_, *context, "Admin.ListVolumes", Access::kReads, request, response,
                   std::bind_front(&api::Admin::ListVolumes, &admin_));
}

grpc::ServerUnaryReactor* AdminService::GetVolume(grpc::CallbackServerContext* context,
                                                  const admin::v1::GetVolumeRequest* request,
                                                  admin::v1::Volume* response) {
  return StartCall(environment_, *context, "Admin.GetVolume", Access::kReads, request, response,
                   std::bind_front(&api::Admin::GetVolume, &admin_));
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const admin::v1::GetStatusRequest* request,
                                                  admin::v1::Status* response) {
  return StartCall(environment_, *context, "Admin.GetStatus", Access::kReads, request, response,
                   std::bind_front(&api::Admin::GetStatus, &admin_));
}

grpc::ServerUnaryReactor* AdminService::ListPlugins(grpc::CallbackServerContext* context,
                                                    const admin::v1::ListPluginsRequest* request,
                                                    admin::v1::ListPluginsResponse* response) {
  return StartCall(environment_, *context, "Admin.ListPlugins", Access::kReads, request, response,
                   std::bind_front(&api::Admin::ListPlugins, &admin_));
}

grpc::ServerUnaryReactor* AdminService::ListAdoptionCandidates(
    grpc::CallbackServerContext* context, const admin::v1::ListAdoptionCandidatesRequest* request,
    admin::v1::ListAdoptionCandidatesResponse* response) {
  return StartCall(adoption_, *context, "Admin.ListAdoptionCandidates", Access::kReads, request,
                   response, std::bind_front(&api::Admin::ListAdoptionCandidates, &admin_),
                   kAdoptionLane);
}

grpc::ServerUnaryReactor* AdminService::AdoptDevice(grpc::CallbackServerContext* context,
                                                    const admin::v1::AdoptDeviceRequest* request,
                                                    admin::v1::Device* response) {
  return StartCall(adoption_, *context, "Admin.AdoptDevice", Access::kChanges, request, response,
                   std::bind_front(&api::Admin::AdoptDevice, &admin_), kAdoptionLane);
}

grpc::ServerWriteReactor<WatchResponse>* AdminService::Watch(grpc::CallbackServerContext* context,
                                                             const WatchRequest* request) {
  base::Context watch_context = ContextOf(*context);
  std::optional<InFlight::Ticket> ticket = watches_.Add(watch_context);
  if (!ticket) {
    return new RefusedWatch(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the agent is stopping"));
  }
  auto* stream = new WatchStream(watch_context, *std::move(ticket), budget_);
  if (!environment_.workers.Submit([this, stream, request] { stream->Begin(admin_, *request); })) {
    stream->End(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls are waiting"));
    stream->Open();
  }
  return stream;
}

}  // namespace sma::service
