#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/iscsi_options.h"
#include "sma.pb.h"

namespace sma::cli {

/// The 16 bytes of a volume id given as UUID text.
absl::StatusOr<std::string> ParseVolumeId(const std::string& text);

/// The options that say how to reach a volume and how it is encrypted.
class VolumeOptions {
 public:
  /// Adds the options to `command`. This object must live as long as `command`.
  void AddTo(CLI::App& command);

  /// Whether any of the options was given.
  bool any() const;

  /// The message for the volume with UUID `volume`. INVALID_ARGUMENT when an option does not hold
  /// what it should.
  absl::StatusOr<sma::VolumeParameters> Build(const std::string& volume,
                                              std::istream& standard_input) const;

 private:
  absl::Status BuildConnection(sma::VolumeParameters& parameters,
                               std::istream& standard_input) const;
  absl::Status BuildCrypto(sma::VolumeParameters& parameters, std::istream& standard_input) const;

  std::vector<std::string> discovery_;
  std::vector<std::string> direct_;
  IscsiOptions iscsi_;
  std::string subnqn_;
  std::string hostnqn_;
  std::string key_file_;
  std::string cipher_;
  std::string tweak_mode_;
};

}  // namespace sma::cli
