#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::volume {

/// The layer that encrypts: a bdev of its own between the bdev of a volume (its base) and the
/// device that exports it. Volumes calls it in this order:
///   attach:  the base is there → Make → the device exports BdevName
///   detach:  the device has let go → Remove → then only the base may go
///   restore: Make again, after the base was made sure of and before the device is looked at
/// Thread-safe, but never called twice at once for one volume. The methods block.
///
/// Errors: target not reachable: UNAVAILABLE. Where it is not known what the target did the status
/// is marked by jsonrpc::WithFateUnknown, and Remove is called later, as often as it takes.
class CryptoLayer {
 public:
  virtual ~CryptoLayer() = default;

  /// No remote call. INVALID_ARGUMENT: the target cannot encrypt like this, or a key is no good.
  virtual absl::Status Check(const VolumeCryptoParameters& params) const = 0;

  /// The name of the bdev that encrypts volume `id`; derived from it. No remote call.
  virtual std::string BdevName(const base::Uuid& id) const = 0;

  /// Makes the bdev over `base_bdev`, a name or alias; with `params` come the keys. One that is
  /// there is verified, name and key, and made again if it differs. Undoes what it did when it
  /// fails. NOT_FOUND: the base is not there.
  virtual absl::Status Make(const base::Context& context, const base::Uuid& id,
                            std::string_view base_bdev, const VolumeCryptoParameters& params) = 0;

  /// Removes the bdev and its key. OK when they are not there.
  virtual absl::Status Remove(const base::Context& context, const base::Uuid& id) = 0;
};

}  // namespace sma::volume
