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

// "aes-xts" for AES_XTS: the names of the standard's enum values in either case, with - for _.
std::string EnumName(const std::string& text) {
  return absl::StrReplaceAll(absl::AsciiStrToUpper(text), {{"-", "_"}});
}

absl::Status BadKeyFile(const std::string& path, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", path, why));
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
      .add_option("--discovery", discovery_,
                  "Discovery service that knows the volume (TRTYPE:ADDRESS:PORT); may be repeated. "
                  "Without it the volume is one that the target already has")
      ->allow_extra_args(false)
      ->type_name("ENDPOINT")
      ->group(group);
  command.add_option("--subnqn", subnqn_, "Subsystem that has the volume")
      ->type_name("NQN")
      ->group(group);
  command.add_option("--hostnqn", hostnqn_, "NQN that the target gives as its own")
      ->type_name("NQN")
      ->group(group);
  command
      .add_option("--key-file", key_file_,
                  "Encrypts the volume: a file (- for standard input) with the key as hexadecimal "
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
  return !discovery_.empty() || !subnqn_.empty() || !hostnqn_.empty() || !key_file_.empty() ||
         !cipher_.empty() || !tweak_mode_.empty();
}

absl::StatusOr<sma::VolumeParameters> VolumeOptions::Build(const std::string& volume,
                                                           std::istream& standard_input) const {
  sma::VolumeParameters parameters;
  absl::StatusOr<std::string> id = ParseVolumeId(volume);
  if (!id.ok()) return id.status();
  parameters.set_volume_id(*id);
  if (absl::Status status = BuildConnection(parameters); !status.ok()) return status;
  if (absl::Status status = BuildCrypto(parameters, standard_input); !status.ok()) return status;
  return parameters;
}

absl::Status VolumeOptions::BuildConnection(sma::VolumeParameters& parameters) const {
  if (discovery_.empty()) {
    if (subnqn_.empty() && hostnqn_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--subnqn and --hostnqn need --discovery");
  }
  auto* nvmf = parameters.mutable_nvmf();
  nvmf->set_subnqn(subnqn_);
  nvmf->set_hostnqn(hostnqn_);
  for (const std::string& endpoint : discovery_) {
    absl::StatusOr<TransportAddress> address = ParseTransportAddress(endpoint);
    if (!address.ok()) return address.status();
    auto* added = nvmf->mutable_discovery()->add_discovery_endpoints();
    added->set_trtype(address->trtype);
    added->set_traddr(address->traddr);
    added->set_trsvcid(address->trsvcid);
  }
  return absl::OkStatus();
}

absl::Status VolumeOptions::BuildCrypto(sma::VolumeParameters& parameters,
                                        std::istream& standard_input) const {
  if (key_file_.empty()) {
    if (cipher_.empty() && tweak_mode_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--cipher and --tweak-mode need --key-file");
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
  if (keys.empty() || keys.size() > 2) return BadKeyFile(key_file_, "not one or two keys");
  for (const std::string& key : keys) {
    if (!base::HexDecode(key)) return BadKeyFile(key_file_, "a key is not hexadecimal digits");
  }
  auto* crypto = parameters.mutable_crypto();
  crypto->set_key(keys[0]);
  if (keys.size() == 2) crypto->set_key2(keys[1]);
  crypto->set_cipher(cipher);
  crypto->set_tweak_mode(tweak_mode);
  return absl::OkStatus();
}

}  // namespace sma::cli
