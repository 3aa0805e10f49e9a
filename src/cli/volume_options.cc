// SPDX-License-Identifier: Apache-2.0

#include "cli/volume_options.h"

#include <fmt/format.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/hex.h"
#include "base/uuid.h"
#include "cli/address.h"
#include "cli/session.h"

namespace sma::cli {
namespace {

using Crypto = sma::VolumeCryptoParameters;

// Converts the name on the command line to an enum value's name: "aes-xts" or "AES_XTS" to
// "AES_XTS".
std::string EnumName(const std::string& text) {
  return absl::StrReplaceAll(absl::AsciiStrToUpper(text), {{"-", "_"}});
}

absl::Status BadKeyFile(const std::string& path, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, why));
}

absl::Status AddAddresses(const std::vector<std::string>& endpoints,
                          google::protobuf::RepeatedPtrField<sma::nvmf::Address>& addresses) {
  for (const std::string& endpoint : endpoints) {
    absl::StatusOr<TransportAddress> address = ParseTransportAddress(endpoint);
    if (!address.ok()) return address.status();
    sma::nvmf::Address& added = *addresses.Add();
    added.set_trtype(address->trtype);
    added.set_traddr(address->traddr);
    added.set_trsvcid(address->trsvcid);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ParseVolumeId(const std::string& text) {
  std::optional<base::Uuid> uuid = base::Uuid::Parse(text);
  if (!uuid) return absl::InvalidArgumentError(fmt::format("volume '{}' is not a UUID", text));
  return uuid->ToBytes();
}

void VolumeOptions::AddTo(CLI::App& command) {
  const std::string group = "Volume";
  command
      .add_option(
          "--discovery", discovery_,
          "Discovery service that lists the volume's subsystem (TRTYPE:ADDRESS:PORT); may be "
          "repeated. "
          "Without --discovery, --direct and --iscsi the volume is a local bdev of the target")
      ->allow_extra_args(false)
      ->type_name("ENDPOINT")
      ->group(group);
  command
      .add_option(
          "--direct", direct_,
          "Address of the volume's subsystem (TRTYPE:ADDRESS:PORT), to connect without discovery; "
          "may be repeated for more paths. Requires --subnqn")
      ->allow_extra_args(false)
      ->type_name("ENDPOINT")
      ->group(group);
  iscsi_.AddTo(command, group);
  command.add_option("--subnqn", subnqn_, "Subsystem that has the volume")
      ->type_name("NQN")
      ->group(group);
  command.add_option("--hostnqn", hostnqn_, "Host NQN that the target connects with")
      ->type_name("NQN")
      ->group(group);
  command
      .add_option("--key-file", key_file_,
                  "Encrypt the volume: file (- for standard input) with the key as hexadecimal "
                  "digits and, on a second line, the second key")
      ->type_name("FILE")
      ->group(group);
  command.add_option("--cipher", cipher_, "aes-xts (default) or aes-cbc")
      ->type_name("NAME")
      ->group(group);
  command
      .add_option("--tweak-mode", tweak_mode_,
                  "simple-lba (default), join-neg-lba-with-lba, incr-512-full-lba or "
                  "incr-512-upper-lba")
      ->type_name("NAME")
      ->group(group);
}

bool VolumeOptions::any() const {
  return !discovery_.empty() || !direct_.empty() || iscsi_.any() || !subnqn_.empty() ||
         !hostnqn_.empty() || !key_file_.empty() || !cipher_.empty() || !tweak_mode_.empty();
}

absl::StatusOr<sma::VolumeParameters> VolumeOptions::Build(const std::string& volume,
                                                           std::istream& standard_input) const {
  sma::VolumeParameters parameters;
  absl::StatusOr<std::string> id = ParseVolumeId(volume);
  if (!id.ok()) return id.status();
  parameters.set_volume_id(*id);
  if (absl::Status status = BuildConnection(parameters, standard_input); !status.ok())
    return status;
  if (absl::Status status = BuildCrypto(parameters, standard_input); !status.ok()) return status;
  return parameters;
}

absl::Status VolumeOptions::BuildConnection(sma::VolumeParameters& parameters,
                                            std::istream& standard_input) const {
  const bool is_nvmf = !discovery_.empty() || !direct_.empty();
  if (!is_nvmf && (!subnqn_.empty() || !hostnqn_.empty())) {
    return absl::InvalidArgumentError("--subnqn and --hostnqn require --discovery or --direct");
  }
  if ((!discovery_.empty() && !direct_.empty()) || (is_nvmf && iscsi_.any())) {
    return absl::InvalidArgumentError("--discovery, --direct and --iscsi are mutually exclusive");
  }
  if (iscsi_.any()) return iscsi_.Build(*parameters.mutable_iscsi(), standard_input);
  if (!is_nvmf) return absl::OkStatus();
  auto* nvmf = parameters.mutable_nvmf();
  nvmf->set_subnqn(subnqn_);
  nvmf->set_hostnqn(hostnqn_);
  if (direct_.empty()) {
    return AddAddresses(discovery_, *nvmf->mutable_discovery()->mutable_discovery_endpoints());
  }
  if (subnqn_.empty()) return absl::InvalidArgumentError("--direct requires --subnqn");
  return AddAddresses(direct_, *nvmf->mutable_direct()->mutable_addresses());
}

absl::Status VolumeOptions::BuildCrypto(sma::VolumeParameters& parameters,
                                        std::istream& standard_input) const {
  if (key_file_.empty()) {
    if (cipher_.empty() && tweak_mode_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--cipher and --tweak-mode require --key-file");
  }
  Crypto::Cipher cipher = Crypto::AES_XTS;
  if (!cipher_.empty() && !Crypto::Cipher_Parse(EnumName(cipher_), &cipher)) {
    return absl::InvalidArgumentError(fmt::format("unknown cipher '{}'", cipher_));
  }
  Crypto::TweakMode tweak_mode = Crypto::TWEAK_MODE_SIMPLE_LBA;
  if (!tweak_mode_.empty() &&
      !Crypto::TweakMode_Parse("TWEAK_MODE_" + EnumName(tweak_mode_), &tweak_mode)) {
    return absl::InvalidArgumentError(fmt::format("unknown tweak mode '{}'", tweak_mode_));
  }
  absl::StatusOr<std::string> text = ReadFile(key_file_, standard_input);
  if (!text.ok()) return text.status();
  const std::vector<std::string> keys =
      absl::StrSplit(*text, absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty());
  if (keys.empty() || keys.size() > 2)
    return BadKeyFile(key_file_, "the file must contain one or two keys");
  for (const std::string& key : keys) {
    if (!base::HexDecode(key))
      return BadKeyFile(
          key_file_,
          "a key contains other characters than hexadecimal digits, or an odd number of digits");
  }
  auto* crypto = parameters.mutable_crypto();
  crypto->set_key(keys[0]);
  if (keys.size() == 2) crypto->set_key2(keys[1]);
  crypto->set_cipher(cipher);
  crypto->set_tweak_mode(tweak_mode);
  return absl::OkStatus();
}

}  // namespace sma::cli
