// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/iscsi_options.h"
#include "sma.pb.h"

namespace sma::cli {

/// Parses a volume id in text form; returns its 16 bytes. Returns INVALID_ARGUMENT if it is not a
/// UUID.
absl::StatusOr<std::string> ParseVolumeId(const std::string& text);

/// The command-line options for a volume's connection and encryption.
class VolumeOptions {
 public:
  /// Adds the options to `command`. This object must live as long as `command`.
  void AddTo(CLI::App& command);

  /// Returns true if any of the options was given.
  bool any() const;

  /// Builds the message for the volume with UUID `volume`. Returns INVALID_ARGUMENT if an option is
  /// invalid.
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
