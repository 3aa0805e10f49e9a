// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage_target/nvme/command.h"

/// The PDUs of NVMe/TCP 1.0 §3.6 and the checks that apply to each of them, for both ends of a
/// connection.
namespace sma::storage_target::nvme::tcp {

enum class PduType : uint8_t {
  kIcReq = 0x00,
  kIcResp = 0x01,
  kH2cTermReq = 0x02,
  kC2hTermReq = 0x03,
  kCapsuleCmd = 0x04,
  kCapsuleResp = 0x05,
  kH2cData = 0x06,
  kC2hData = 0x07,
  kR2t = 0x09,
};

/// CommonHeader::flags.
inline constexpr uint8_t kFlagHeaderDigest = 1u << 0;
inline constexpr uint8_t kFlagDataDigest = 1u << 1;
inline constexpr uint8_t kFlagLastPdu = 1u << 2;  // H2CData, C2HData
inline constexpr uint8_t kFlagSuccess =
    1u << 3;  // C2HData: the command has succeeded, no CapsuleResp follows

/// NVMe/TCP 1.0 §3.6.1.
struct CommonHeader {
  PduType type = PduType::kIcReq;
  uint8_t flags = 0;
  uint8_t hlen = 0;   // bytes of the header without digest
  uint8_t pdo = 0;    // offset of the data from the start of the PDU
  uint32_t plen = 0;  // bytes of the whole PDU
};
static_assert(sizeof(CommonHeader) == 8);

/// IcReq::digests, IcResp::digests.
inline constexpr uint8_t kDigestHeader = 1u << 0;
inline constexpr uint8_t kDigestData = 1u << 1;

struct IcReq {
  CommonHeader header{PduType::kIcReq, 0, 128, 0, 128};
  uint16_t pfv = 0;  // PDU format version
  uint8_t hpda = 0;  // alignment of host data, in dwords, 0's based
  uint8_t digests = 0;
  uint32_t maxr2t = 0;  // maximum number of outstanding R2Ts per command, 0's based
  uint8_t reserved[112] = {};
};
static_assert(sizeof(IcReq) == 128 && offsetof(IcReq, maxr2t) == 12);

struct IcResp {
  CommonHeader header{PduType::kIcResp, 0, 128, 0, 128};
  uint16_t pfv = 0;
  uint8_t cpda = 0;  // alignment of controller data, in dwords, 0's based
  uint8_t digests = 0;
  uint32_t maxh2cdata = 0;  // maximum number of data bytes per H2CData
  uint8_t reserved[112] = {};
};
static_assert(sizeof(IcResp) == 128 && offsetof(IcResp, maxh2cdata) == 12);
inline constexpr uint32_t kMinMaxH2cData = 4096;
inline constexpr uint8_t kMaxAlignment = 31;  // for hpda and cpda

/// FES of a TermReq, NVMe/TCP 1.0 §3.6.2.3 and §3.6.2.4.
enum class FatalError : uint16_t {
  kNone = 0,
  kInvalidHeaderField = 1,  // FEI: the offset of the field in the header
  kSequence = 2,
  kHeaderDigest = 3,  // FEI: the received digest
  kDataOutOfRange = 4,
  kDataLimitExceeded = 5,     // C2HTermReq: data transfer limit; H2CTermReq: R2T limit
  kUnsupportedParameter = 6,  // FEI: the offset of the field in the header
};

/// H2CTermReq and C2HTermReq; may be followed by the header of the invalid PDU.
struct TermReq {
  CommonHeader header{PduType::kC2hTermReq, 0, 24, 0, 24};
  FatalError fes = FatalError::kNone;
  uint16_t fei_low = 0;
  uint16_t fei_high = 0;
  uint8_t reserved[10] = {};
};
static_assert(sizeof(TermReq) == 24 && offsetof(TermReq, fei_low) == 10);
inline constexpr uint32_t kMaxTermReqSize = 152;  // bytes

struct CapsuleCmd {
  CommonHeader header{PduType::kCapsuleCmd, 0, 72, 0, 72};
  Command command;
};
static_assert(sizeof(CapsuleCmd) == 72);

struct CapsuleResp {
  CommonHeader header{PduType::kCapsuleResp, 0, 24, 0, 24};
  Completion completion;
};
static_assert(sizeof(CapsuleResp) == 24);

/// H2CData and C2HData.
struct DataPdu {
  CommonHeader header{PduType::kC2hData, 0, 24, 0, 24};
  uint16_t cccid = 0;        // command identifier
  uint16_t ttag = 0;         // H2CData: transfer tag of the R2T
  uint32_t data_offset = 0;  // from the start of the command's data
  uint32_t data_length = 0;
  uint8_t reserved[4] = {};
};
static_assert(sizeof(DataPdu) == 24 && offsetof(DataPdu, data_offset) == 12);

struct R2t {
  CommonHeader header{PduType::kR2t, 0, 24, 0, 24};
  uint16_t cccid = 0;
  uint16_t ttag = 0;
  uint32_t offset = 0;  // R2TO
  uint32_t length = 0;  // R2TL
  uint8_t reserved[4] = {};
};
static_assert(sizeof(R2t) == 24);

inline constexpr size_t kDigestSize = 4;
/// The size of the longest header including its digest (ICReq and ICResp have no digest).
inline constexpr size_t kMaxHeaderSize = 128;

/// The parameters negotiated with ICReq and ICResp. Default: the state before the negotiation.
struct NegotiatedParams {
  bool initialized = false;  // ICReq and ICResp were exchanged
  bool header_digest = false;
  bool data_digest = false;
  uint8_t hpda = 0;
  uint8_t cpda = 0;
  uint32_t maxh2cdata = 0;      // bytes
  uint32_t max_in_capsule = 0;  // maximum number of data bytes in a CapsuleCmd
};

/// A fatal error of a connection: FES and FEI of the TermReq to send. If `fes` is kNone, there is
/// no error.
struct Fault {
  FatalError fes = FatalError::kNone;
  uint32_t fei = 0;
  explicit operator bool() const { return fes != FatalError::kNone; }
};

/// The offsets and sizes of the parts of a PDU, in bytes.
struct Layout {
  uint32_t header_size = 0;  // including the digest
  uint32_t data_offset = 0;
  uint32_t data_size = 0;
  bool data_digest = false;  // followed by a digest of four bytes
  uint32_t size = 0;         // of the whole PDU
  bool operator==(const Layout&) const = default;
};

/// Checks a common header received from the peer: type (valid for this end; ICReq and ICResp
/// exactly once and first), hlen, pdo, plen, digest flags, and the limits in `negotiated`. Fills
/// `layout` if there is no fault. `from_host` is true if this end is the controller. Does not check
/// to which command the data belong.
Fault CheckHeader(const CommonHeader& header, bool from_host, const NegotiatedParams& negotiated,
                  Layout& layout);

/// Check the fields of an ICReq (by the controller) or of an ICResp (by the host, which requested
/// `digests`).
Fault CheckIcReq(const IcReq& request);
Fault CheckIcResp(const IcResp& response, uint8_t digests);

/// Returns the common header of a PDU with `data_size` bytes of data and the negotiated digests:
/// hlen, pdo, plen and digest flags are set. `layout`, if given, receives the layout that
/// CheckHeader would return.
CommonHeader MakeHeader(PduType type, const NegotiatedParams& negotiated, uint32_t data_size,
                        Layout* layout = nullptr);

/// Returns the size of a header of this type without digest in bytes; 0 for an unknown type.
uint8_t HeaderLength(PduType type);

/// Writes to `out` a TermReq of `type` for the PDU that begins with `culprit`; returns its size in
/// bytes.
size_t WriteTermReq(PduType type, Fault fault, std::span<const std::byte> culprit,
                    std::span<std::byte, kMaxTermReqSize> out);

}  // namespace sma::storage_target::nvme::tcp
