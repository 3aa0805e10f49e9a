// SPDX-License-Identifier: Apache-2.0

// Package nvme is a small NVMe/TCP host that shares no code with the target under test. It follows the
// NVM Express Base Specification 2.0, NVM Command Set 1.0 and NVMe/TCP Transport 1.0.
package nvme

import "encoding/binary"

// PDU types, NVMe/TCP Transport 1.0, section 3.6.
const (
	pduICReq      = 0x00
	pduICResp     = 0x01
	pduH2CTermReq = 0x02
	pduC2HTermReq = 0x03
	PduCapsuleCmd = 0x04
	pduCapsuleRsp = 0x05
	pduH2CData    = 0x06
	pduC2HData    = 0x07
	pduR2T        = 0x09
)

const (
	commonHeaderBytes = 8
	icBytes           = 128
	SqeBytes          = 64
	capsuleHeader     = commonHeaderBytes + SqeBytes
	dataHeaderBytes   = 24
	maxPduBytes       = 1 << 20

	flagDataLast    = 1 << 2
	flagDataSuccess = 1 << 3
)

// Opcodes, Base Specification figures 88 and 139; NVM Command Set figure 21.
const (
	opAdminGetLogPage  = 0x02
	opAdminIdentify    = 0x06
	opAdminAbort       = 0x08
	opAdminSetFeatures = 0x09
	opAdminAsyncEvent  = 0x0c
	opAdminKeepAlive   = 0x18
	opFabrics          = 0x7f

	OpFlush = 0x00
	OpWrite = 0x01
	OpRead  = 0x02

	fctypePropertySet = 0x00
	fctypeConnect     = 0x01
	fctypePropertyGet = 0x04

	propertyCC   = 0x14
	propertyCSTS = 0x1c

	featureNumberOfQueues = 0x07
	featureAsyncEvents    = 0x0b

	logChangedNamespaces = 0x04

	identifyController  = 0x01
	identifyNamespace   = 0x00
	identifyActiveList  = 0x02
	identifyDescriptors = 0x03

	descriptorUUID = 0x03
)

// Status is the status field of a completion without phase bit: status code type in bits 10:8, status
// code in bits 7:0, Do Not Retry in bit 14.
type Status uint16

// Code is the status without More, Command Retry Delay and Do Not Retry.
func (s Status) Code() Status { return s & 0x7ff }

// SGL descriptor types with their subtypes in the low nibble, Base Specification 4.1.2.
const (
	sglInCapsule = 0x01
	sglTransport = 0x5a
)

// Sqe is a submission queue entry.
type Sqe [SqeBytes]byte

func newSqe(opcode byte, nsid uint32) *Sqe {
	var sqe Sqe
	sqe[0] = opcode
	sqe[1] = 0x40 // PSDT: SGLs
	binary.LittleEndian.PutUint32(sqe[4:], nsid)
	return &sqe
}

func (s *Sqe) setCid(cid uint16)            { binary.LittleEndian.PutUint16(s[2:], cid) }
func (s *Sqe) setDword(n int, value uint32) { binary.LittleEndian.PutUint32(s[n*4:], value) }

func (s *Sqe) setSgl(kind byte, length int) {
	binary.LittleEndian.PutUint32(s[32:], uint32(length))
	s[39] = kind
}

func fabricsSqe(fctype byte) *Sqe {
	sqe := newSqe(opFabrics, 0)
	sqe[4] = fctype
	return sqe
}

func blockSqe(opcode byte, nsid uint32, lba uint64, blocks int) *Sqe {
	sqe := newSqe(opcode, nsid)
	if opcode != OpFlush {
		binary.LittleEndian.PutUint64(sqe[40:], lba)
		sqe.setDword(12, uint32(blocks-1))
	}
	return sqe
}

// pduHeader is the common header, section 3.6.1.
func pduHeader(kind, flags byte, headerBytes, dataOffset, size int) []byte {
	header := make([]byte, headerBytes)
	header[0], header[1], header[2], header[3] = kind, flags, byte(headerBytes), byte(dataOffset)
	binary.LittleEndian.PutUint32(header[4:], uint32(size))
	return header
}

func icRequest() []byte {
	return pduHeader(pduICReq, 0, icBytes, 0, icBytes)
}

// Completion is the answer to a command.
type Completion struct {
	Dword0 uint32
	Status Status
	Data   []byte
}
