// SPDX-License-Identifier: Apache-2.0

#include "agent/service/redact.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <optional>
#include <string_view>

#include "absl/strings/escaping.h"
#include "base/uuid.h"
#include "sma/device_params.h"

namespace sma::service {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::TextFormat;

constexpr size_t kMaxWordBytes = 256;

std::string Escaped(const std::string& text) {
  if (text.size() <= kMaxWordBytes) return absl::CHexEscape(text);
  return absl::CHexEscape(text.substr(0, kMaxWordBytes)) + "...";
}

std::string VolumeName(const std::string& volume_id) {
  std::optional<base::Uuid> uuid = base::Uuid::FromBytes(volume_id);
  return uuid ? uuid->ToString() : fmt::format("invalid volume id '{}'", Escaped(volume_id));
}

class SecretPrinter : public TextFormat::FastFieldValuePrinter {
 public:
  void PrintString(const std::string&, TextFormat::BaseTextGenerator* out) const override {
    out->PrintLiteral("redacted");
  }
  void PrintBytes(const std::string&, TextFormat::BaseTextGenerator* out) const override {
    out->PrintLiteral("redacted");
  }
};

class VolumePrinter : public TextFormat::FastFieldValuePrinter {
 public:
  void PrintBytes(const std::string& value, TextFormat::BaseTextGenerator* out) const override {
    out->PrintString(VolumeName(value));
  }
};

template <typename FieldPrinter>
void Register(TextFormat::Printer& printer, const Descriptor* message, const char* field) {
  auto field_printer = std::make_unique<FieldPrinter>();
  // Fails only for a field that does not exist. On success the printer owns `field_printer`.
  if (printer.RegisterFieldValuePrinter(message->FindFieldByName(field), field_printer.get())) {
    static_cast<void>(field_printer.release());
  }
}

std::unique_ptr<const TextFormat::Printer> MakePrinter() {
  auto printer = std::make_unique<TextFormat::Printer>();
  printer->SetSingleLineMode(true);
  printer->SetHideUnknownFields(true);
  Register<SecretPrinter>(*printer, VolumeCryptoParameters::descriptor(), "key");
  Register<SecretPrinter>(*printer, VolumeCryptoParameters::descriptor(), "key2");
  Register<SecretPrinter>(*printer, iscsi::ChapCredentials::descriptor(), "secret");
  Register<VolumePrinter>(*printer, VolumeParameters::descriptor(), "volume_id");
  Register<VolumePrinter>(*printer, DetachVolumeRequest::descriptor(), "volume_id");
  Register<VolumePrinter>(*printer, SetQosRequest::descriptor(), "volume_id");
  Register<VolumePrinter>(*printer, admin::v1::GetVolumeRequest::descriptor(), "volume_id");
  Register<VolumePrinter>(*printer, admin::v1::AdoptDeviceRequest::descriptor(), "volume_ids");
  return printer;
}

std::string WithVolume(std::string object, const std::string& volume_id) {
  return fmt::format("{} volume {}", object, VolumeName(volume_id));
}

}  // namespace

std::string Redacted(const google::protobuf::Message& message) {
  static const std::unique_ptr<const TextFormat::Printer> printer = MakePrinter();
  std::string text;
  printer->PrintToString(message, &text);
  return text;
}

std::string ObjectOf(const CreateDeviceRequest& request) {
  std::string object = "no parameters";
  if (const auto* field = ParamsField(request)) {
    object = fmt::format("{} {}", std::string(field->name()),
                         Escaped(ParamsIdentity(*ParamsOf(request), "/")));
  }
  return request.has_volume() ? WithVolume(object, request.volume().volume_id()) : object;
}

std::string ObjectOf(const DeleteDeviceRequest& request) { return Escaped(request.handle()); }

std::string ObjectOf(const AttachVolumeRequest& request) {
  return WithVolume(Escaped(request.device_handle()), request.volume().volume_id());
}

std::string ObjectOf(const DetachVolumeRequest& request) {
  return WithVolume(Escaped(request.device_handle()), request.volume_id());
}

std::string ObjectOf(const SetQosRequest& request) {
  std::string object = Escaped(request.device_handle());
  return request.volume_id().empty() ? object : WithVolume(object, request.volume_id());
}

std::string ObjectOf(const GetQosCapabilitiesRequest& request) {
  return fmt::format("device type {}", static_cast<int>(request.device_type()));
}

std::string ObjectOf(const admin::v1::GetDeviceRequest& request) {
  return Escaped(request.handle());
}

std::string ObjectOf(const admin::v1::GetVolumeRequest& request) {
  return VolumeName(request.volume_id());
}

std::string ObjectOf(const admin::v1::AdoptDeviceRequest& request) {
  return Escaped(request.handle());
}

}  // namespace sma::service
