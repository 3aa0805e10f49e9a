#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/core/core.h"
#include "agent/service/agent_api.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::core {

/// Waits for the bdev of `volume` as long as it says: types that keep their devices themselves
/// expect it to be there. NOT_FOUND: it did not appear.
absl::Status WaitForBdev(const Core& core, const base::Context& context,
                         const DeviceVolume& volume);

/// The published service: each method checks, locks, writes down what it is about to do, does it,
/// and writes down that it is done, or undoes it.
class UseCases : public service::Agent {
 public:
  /// `core` outlives this.
  explicit UseCases(Core& core) : core_(core) {}

  absl::StatusOr<CreateDeviceResponse> CreateDevice(const base::Context& context,
                                                    const CreateDeviceRequest& request) override;
  absl::StatusOr<DeleteDeviceResponse> DeleteDevice(const base::Context& context,
                                                    const DeleteDeviceRequest& request) override;
  absl::StatusOr<AttachVolumeResponse> AttachVolume(const base::Context& context,
                                                    const AttachVolumeRequest& request) override;
  absl::StatusOr<DetachVolumeResponse> DetachVolume(const base::Context& context,
                                                    const DetachVolumeRequest& request) override;
  absl::StatusOr<SetQosResponse> SetQos(const base::Context& context,
                                        const SetQosRequest& request) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context, const GetQosCapabilitiesRequest& request) override;
  bool IsPlugins(const CreateDeviceRequest& request) const override;
  bool IsPlugins(std::string_view handle) const override;
  bool IsPlugins(DeviceType type) const override;

 private:
  /// The caller's context, with a deadline in any case.
  base::Context Bounded(const base::Context& context) const;

  // create_device.cc. Under the locks of the device and the volume.
  absl::Status CreateLocked(const base::Context& context, DeviceManager& manager,
                            const DeviceSpec& device, const VolumeRequest* volume);
  absl::Status CreateNew(const base::Context& context, DeviceManager& manager,
                         const DeviceSpec& device, const VolumeRequest* volume);
  absl::Status CreateAgain(const base::Context& context, DeviceManager& manager,
                           const record::Device& row, const DeviceSpec& device,
                           const VolumeRequest* volume);
  absl::Status TakeOver(const base::Context& context, DeviceManager& manager,
                        const DeviceSpec& device, const ExistingDevice& existing,
                        const VolumeRequest* volume);
  Outcome MakeByPlan(const base::Context& context, DeviceManager& manager,
                     const record::Device& row, const VolumeRequest& request,
                     record::Volume volume);
  Outcome MakeDevice(const base::Context& context, DeviceManager& manager,
                     const record::Device& row, const std::vector<record::Volume>& volumes,
                     BdevPlan* plan);
  absl::Status FailCreate(const record::Device& device, const std::vector<record::Volume>& volumes,
                          const Outcome& outcome);

  // attach_volume.cc. Under the locks of the device and the volume.
  Outcome AttachOnce(const base::Context& context, const std::string& handle,
                     const VolumeRequest& volume);
  Outcome AttachLocked(const base::Context& context, DeviceManager& manager,
                       const DeviceSpec& device, const VolumeRequest& volume);
  Outcome AttachNew(const base::Context& context, DeviceManager& manager, const DeviceSpec& device,
                    const VolumeRequest& volume);
  bool IsIntact(const base::Context& context, DeviceManager& manager, const DeviceSpec& device,
                const VolumeRequest& request, const record::Volume& row);
  absl::Status ConnectAgain(const base::Context& context, const VolumeRequest& request,
                            record::Volume& row);
  absl::Status VerifyAttached(const base::Context& context, DeviceManager& manager,
                              const DeviceSpec& device, const VolumeRequest& request,
                              record::Volume row);
  OutcomeOr<std::unique_ptr<BdevPlan>> PlanFor(const base::Context& context, DeviceManager& manager,
                                               const VolumeRequest& request, record::Volume& row);
  Outcome AttachByPlan(const base::Context& context, DeviceManager& manager,
                       const DeviceSpec& device, const VolumeRequest& request, record::Volume row);
  Outcome AttachConnected(const base::Context& context, DeviceManager& manager,
                          const DeviceSpec& device, record::Volume row, BdevPlan* plan);
  Outcome FailAttach(const record::Volume& row, Outcome outcome);
  absl::Status DetachLocked(const base::Context& context, const record::Volume& row);

  // autonomous.cc
  absl::StatusOr<CreateDeviceResponse> CreateAutonomous(const base::Context& context,
                                                        DeviceManager& manager,
                                                        const CreateDeviceRequest& request);
  absl::StatusOr<std::string> CreateAutonomousLocked(const base::Context& context,
                                                     DeviceManager& manager,
                                                     const record::Device& row,
                                                     const VolumeRequest* volume);
  OutcomeOr<std::string> MakeAutonomous(const base::Context& context, DeviceManager& manager,
                                        const record::Device& row, const VolumeRequest* asked_for,
                                        const std::optional<record::Volume>& attached,
                                        std::vector<record::Volume>& new_volumes);
  /// Takes a device into the record whose type says that it has it. Any other handle: OK.
  absl::Status AdoptAutonomous(const base::Context& context, const std::string& handle);
  /// Takes a device that AdoptAutonomous has added out again, unless it has volumes.
  void ForgetUnused(const base::Context& context, const std::string& handle);
  absl::StatusOr<SetQosResponse> SetQosAutonomous(const base::Context& context,
                                                  DeviceManager& manager, const DeviceSpec& device,
                                                  const SetQosRequest& request);

  // set_qos.cc
  /// Of `volume`; null: of the device.
  absl::Status SetLimits(const base::Context& context, DeviceManager& manager,
                         const DeviceSpec& device, const DeviceVolume* volume,
                         const QosLimit& maximum);
  /// nullopt: removes them. `id`: of a volume, or LimitsKeyOf a device.
  absl::Status WriteLimits(const base::Uuid& id, const std::optional<QosLimit>& limits,
                           record::Durability durability);
  absl::StatusOr<record::Volume> FindForQos(const base::Context& context, const std::string& handle,
                                            const base::Uuid& id);

  Core& core_;
};

}  // namespace sma::core
