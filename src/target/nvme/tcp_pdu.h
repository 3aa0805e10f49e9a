#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "target/nvme/command.h"

/// The PDUs of NVMe/TCP 1.0 §3.6 and the checks that hold for each of them, for both ends of a
/// connection.
namespace sma::target::nvme::tcp {

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
inline constexpr uint8_t kFlagSuccess = 1u << 3;  // C2HData: stands for a CapsuleResp of success

/// NVMe/TCP 1.0 §3.6.1.
struct CommonHeader {
  PduType type = PduType::kIcReq;
  uint8_t flags = 0;
  uint8_t hlen = 0;   // bytes of the header, digest not counted
  uint8_t pdo = 0;    // where the data begins, from the start of the PDU
  uint32_t plen = 0;  // bytes of the whole PDU
};
static_assert(sizeof(CommonHeader) == 8);

/// IcReq::digests, IcResp::digests.
inline constexpr uint8_t kDigestHeader = 1u << 0;
inline constexpr uint8_t kDigestData = 1u << 1;

struct IcReq {
  CommonHeader header{PduType::kIcReq, 0, 128, 0, 128};
  uint16_t pfv = 0;  // PDU format version
  uint8_t hpda = 0;  // alignment of data to the host, in dwords, 0's based
  uint8_t digests = 0;
  uint32_t maxr2t = 0;  // R2Ts open for one command, 0's based
  uint8_t reserved[112] = {};
};
static_assert(sizeof(IcReq) == 128 && offsetof(IcReq, maxr2t) == 12);

struct IcResp {
  CommonHeader header{PduType::kIcResp, 0, 128, 0, 128};
  uint16_t pfv = 0;
  uint8_t cpda = 0;  // alignment of data to the controller, in dwords, 0's based
  uint8_t digests = 0;
  uint32_t maxh2cdata = 0;  // bytes of data in one H2CData
  uint8_t reserved[112] = {};
};
static_assert(sizeof(IcResp) == 128 && offsetof(IcResp, maxh2cdata) == 12);
inline constexpr uint32_t kMinMaxH2cData = 4096;
inline constexpr uint8_t kMaxAlignment = 31;  // of hpda and cpda

/// FES of a TermReq, NVMe/TCP 1.0 §3.6.2.3 and §3.6.2.4.
enum class FatalError : uint16_t {
  kNone = 0,
  kInvalidHeaderField = 1,  // FEI: the offset of the field in the header
  kSequence = 2,
  kHeaderDigest = 3,  // FEI: the digest that came
  kDataOutOfRange = 4,
  kDataLimitExceeded = 5,     // C2HTermReq: data transfer limit; H2CTermReq: R2T limit
  kUnsupportedParameter = 6,  // FEI: the offset of the field in the header
};

/// H2CTermReq and C2HTermReq; the header of the PDU at fault may follow.
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
  uint16_t cccid = 0;        // the command's identifier
  uint16_t ttag = 0;         // H2CData: the R2T's transfer tag
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
/// The longest header with its digest (ICReq and ICResp have none).
inline constexpr size_t kMaxHeaderSize = 128;

/// What the two ends agreed on with ICReq and ICResp; default: before that.
struct Agreement {
  bool initialized = false;  // ICReq and ICResp were exchanged
  bool header_digest = false;
  bool data_digest = false;
  uint8_t hpda = 0;
  uint8_t cpda = 0;
  uint32_t maxh2cdata = 0;      // bytes
  uint32_t max_in_capsule = 0;  // bytes of data in one CapsuleCmd
};

/// Why a connection must end: FES and FEI of the TermReq to send. `fes` kNone: it need not.
struct Fault {
  FatalError fes = FatalError::kNone;
  uint32_t fei = 0;
  explicit operator bool() const { return fes != FatalError::kNone; }
};

/// Where the parts of a PDU are, from its start, in bytes.
struct Layout {
  uint32_t header_size = 0;  // with digest
  uint32_t data_offset = 0;
  uint32_t data_size = 0;
  bool data_digest = false;  // four bytes after the data
  uint32_t size = 0;         // of the PDU
  bool operator==(const Layout&) const = default;
};

/// Checks a common header as it came from the peer: type (one that this end may receive,
/// ICReq/ICResp first and only then), hlen, pdo, plen, digest flags, and the limits of `agreement`.
/// Fills `layout` when there is no fault. `from_host`: this end is the controller. What a PDU's
/// data belongs to is for the caller to check.
Fault CheckHeader(const CommonHeader& header, bool from_host, const Agreement& agreement,
                  Layout& layout);

/// Checks the fields of an ICReq (by the controller) or ICResp (by the host, which asked for
/// `digests`).
Fault CheckIcReq(const IcReq& request);
Fault CheckIcResp(const IcResp& response, uint8_t digests);

/// The common header of a PDU that carries `data_size` bytes, digests as agreed: hlen, pdo, plen
/// and digest flags set. `layout`, if given, gets what CheckHeader would say.
CommonHeader MakeHeader(PduType type, const Agreement& agreement, uint32_t data_size,
                        Layout* layout = nullptr);

/// Bytes of a header of this type without digest; 0 for a type that does not exist.
uint8_t HeaderLength(PduType type);

/// Writes a TermReq of `type` about the PDU that begins with `culprit` to `out`; how many bytes
/// that is.
size_t WriteTermReq(PduType type, Fault fault, std::span<const std::byte> culprit,
                    std::span<std::byte, kMaxTermReqSize> out);

}  // namespace sma::target::nvme::tcp
