// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvme/tcp_pdu.h"

#include <algorithm>
#include <cstring>

namespace sma::storage_target::nvme::tcp {
namespace {

constexpr Fault InvalidField(size_t offset) {
  return {FatalError::kInvalidHeaderField, static_cast<uint32_t>(offset)};
}

bool SentByHost(PduType type) {
  switch (type) {
    case PduType::kIcReq:
    case PduType::kH2cTermReq:
    case PduType::kCapsuleCmd:
    case PduType::kH2cData:
      return true;
    default:
      return false;
  }
}

bool IsInitialization(PduType type) { return type == PduType::kIcReq || type == PduType::kIcResp; }
bool IsTermReq(PduType type) {
  return type == PduType::kH2cTermReq || type == PduType::kC2hTermReq;
}
bool MayCarryData(PduType type) {
  return type == PduType::kCapsuleCmd || type == PduType::kH2cData || type == PduType::kC2hData;
}

// All PDUs have header digests except those that initialise or terminate the connection (NVMe/TCP
// 1.0 §3.3.1.1).
uint32_t HeaderDigestSize(PduType type, const NegotiatedParams& negotiated) {
  bool digest = negotiated.header_digest && !IsInitialization(type) && !IsTermReq(type);
  return digest ? kDigestSize : 0;
}

uint32_t DataAlignment(PduType type, const NegotiatedParams& negotiated) {
  return (uint32_t{type == PduType::kC2hData ? negotiated.hpda : negotiated.cpda} + 1) * 4;
}

// Checks that the sender may send this PDU type in the connection's present state.
Fault CheckType(PduType type, bool from_host, const NegotiatedParams& negotiated) {
  if (HeaderLength(type) == 0 || SentByHost(type) != from_host) {
    return InvalidField(offsetof(CommonHeader, type));
  }
  if (!IsTermReq(type) && IsInitialization(type) == negotiated.initialized) {
    return {FatalError::kSequence, 0};
  }
  return {};
}

Fault CheckTermReqSize(const CommonHeader& header, Layout& layout) {
  if (header.plen < sizeof(TermReq) || header.plen > kMaxTermReqSize) {
    return InvalidField(offsetof(CommonHeader, plen));
  }
  uint32_t begin = sizeof(TermReq);
  layout = {begin, begin, header.plen - begin, false, header.plen};
  return {};
}

// Checks the offset and size of a PDU's data.
Fault CheckData(const CommonHeader& header, const NegotiatedParams& negotiated, Layout& layout) {
  if (header.pdo < layout.header_size || header.pdo % DataAlignment(header.type, negotiated) != 0) {
    return InvalidField(offsetof(CommonHeader, pdo));
  }
  layout.data_offset = header.pdo;
  layout.data_digest = negotiated.data_digest;
  uint32_t around = header.pdo + (layout.data_digest ? kDigestSize : 0);
  if (header.plen <= around) return InvalidField(offsetof(CommonHeader, plen));
  layout.data_size = header.plen - around;
  if (((header.flags & kFlagDataDigest) != 0) != negotiated.data_digest) {
    return InvalidField(offsetof(CommonHeader, flags));
  }
  if (header.type == PduType::kCapsuleCmd && layout.data_size > negotiated.max_in_capsule) {
    return {FatalError::kDataLimitExceeded, 0};
  }
  if (header.type == PduType::kH2cData && layout.data_size > negotiated.maxh2cdata) {
    return {FatalError::kDataLimitExceeded, 0};
  }
  return {};
}

}  // namespace

uint8_t HeaderLength(PduType type) {
  switch (type) {
    case PduType::kIcReq:
      return sizeof(IcReq);
    case PduType::kIcResp:
      return sizeof(IcResp);
    case PduType::kH2cTermReq:
    case PduType::kC2hTermReq:
      return sizeof(TermReq);
    case PduType::kCapsuleCmd:
      return sizeof(CapsuleCmd);
    case PduType::kCapsuleResp:
      return sizeof(CapsuleResp);
    case PduType::kH2cData:
    case PduType::kC2hData:
      return sizeof(DataPdu);
    case PduType::kR2t:
      return sizeof(R2t);
  }
  return 0;
}

Fault CheckHeader(const CommonHeader& header, bool from_host, const NegotiatedParams& negotiated,
                  Layout& layout) {
  if (Fault fault = CheckType(header.type, from_host, negotiated)) return fault;
  if (header.hlen != HeaderLength(header.type)) return InvalidField(offsetof(CommonHeader, hlen));
  if (IsTermReq(header.type)) return CheckTermReqSize(header, layout);

  uint32_t digest_size = HeaderDigestSize(header.type, negotiated);
  if (((header.flags & kFlagHeaderDigest) != 0) != (digest_size != 0)) {
    return InvalidField(offsetof(CommonHeader, flags));
  }
  layout = {};
  layout.header_size = header.hlen + digest_size;
  layout.data_offset = layout.header_size;
  layout.size = header.plen;
  if (header.plen == layout.header_size) return {};
  if (header.plen < layout.header_size || !MayCarryData(header.type)) {
    return InvalidField(offsetof(CommonHeader, plen));
  }
  return CheckData(header, negotiated, layout);
}

Fault CheckIcReq(const IcReq& request) {
  if (request.pfv != 0) return {FatalError::kUnsupportedParameter, offsetof(IcReq, pfv)};
  if (request.hpda > kMaxAlignment) return InvalidField(offsetof(IcReq, hpda));
  return {};
}

Fault CheckIcResp(const IcResp& response, uint8_t digests) {
  if (response.pfv != 0) return {FatalError::kUnsupportedParameter, offsetof(IcResp, pfv)};
  if (response.cpda > kMaxAlignment) return InvalidField(offsetof(IcResp, cpda));
  if ((response.digests & (kDigestHeader | kDigestData) & ~digests) != 0) {
    return InvalidField(offsetof(IcResp, digests));
  }
  if (response.maxh2cdata < kMinMaxH2cData || response.maxh2cdata % 4 != 0) {
    return InvalidField(offsetof(IcResp, maxh2cdata));
  }
  return {};
}

CommonHeader MakeHeader(PduType type, const NegotiatedParams& negotiated, uint32_t data_size,
                        Layout* layout) {
  uint32_t digest_size = HeaderDigestSize(type, negotiated);
  CommonHeader header{type, 0, HeaderLength(type), 0, 0};
  Layout made{.header_size = header.hlen + digest_size};
  made.data_offset = made.header_size;
  made.size = made.header_size;
  if (digest_size != 0) header.flags |= kFlagHeaderDigest;
  if (data_size > 0) {
    uint32_t alignment = DataAlignment(type, negotiated);
    made.data_offset = (made.header_size + alignment - 1) / alignment * alignment;
    made.data_size = data_size;
    made.data_digest = negotiated.data_digest;
    made.size = made.data_offset + data_size + (made.data_digest ? kDigestSize : 0);
    header.pdo = static_cast<uint8_t>(made.data_offset);
    if (made.data_digest) header.flags |= kFlagDataDigest;
  }
  header.plen = made.size;
  if (layout != nullptr) *layout = made;
  return header;
}

size_t WriteTermReq(PduType type, Fault fault, std::span<const std::byte> culprit,
                    std::span<std::byte, kMaxTermReqSize> out) {
  size_t copied = std::min(culprit.size(), out.size() - sizeof(TermReq));
  TermReq request;
  request.header.type = type;
  request.header.plen = static_cast<uint32_t>(sizeof(TermReq) + copied);
  request.fes = fault.fes;
  request.fei_low = static_cast<uint16_t>(fault.fei);
  request.fei_high = static_cast<uint16_t>(fault.fei >> 16);
  std::memcpy(out.data(), &request, sizeof request);
  if (copied > 0) std::memcpy(out.data() + sizeof request, culprit.data(), copied);
  return request.header.plen;
}

}  // namespace sma::storage_target::nvme::tcp
