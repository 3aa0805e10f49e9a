// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"encoding/binary"
	"sync"
)

// The fields of NVMe/TCP Transport 1.0 that are needed to follow a stream: PLEN in bytes 4 to 7 of each PDU, and the
// submission queue entry of a command capsule, or the completion of a response, from byte 8 on.
const (
	kindCommand  = 0x04
	kindResponse = 0x05
	opWrite      = 0x01
	replayedCid  = 0xfff0 // hosts of this program use ids below 0x8000
)

// Replayer injects late writes: it stores the capsule of a write and sends it again after a newer write to the same
// block was acknowledged on the same connection. The answer to the repeated write is dropped. Shared by all connections
// of a proxy.
type Replayer struct {
	mutex    sync.Mutex
	Most     int // maximum number of injected late writes
	replayed int
}

// Planted returns the number of injected late writes so far.
func (r *Replayer) Planted() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.replayed
}

// Tap is passed to Proxy.Tap.
func (r *Replayer) Tap() Tap {
	return &replayTap{owner: r, kept: map[uint64][]byte{}, under: map[uint16]uint64{}, acked: map[uint64]int{}}
}

type replayTap struct {
	owner             *Replayer
	mutex             sync.Mutex
	requests, answers []byte
	kept              map[uint64][]byte // by block: the first write's capsule
	under             map[uint16]uint64 // by command id: the block of an unanswered write
	acked             map[uint64]int    // by block: acknowledged writes
	open              bool              // a late write is unanswered
}

// split removes complete PDUs from the front.
func split(stream *[]byte) (pdus [][]byte) {
	for len(*stream) >= 8 {
		size := int(binary.LittleEndian.Uint32((*stream)[4:]))
		if size < 8 || len(*stream) < size {
			return pdus
		}
		pdus = append(pdus, append([]byte(nil), (*stream)[:size]...))
		*stream = (*stream)[size:]
	}
	return pdus
}

func (t *replayTap) Requests(data []byte) []byte {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.requests = append(t.requests, data...)
	var forward []byte
	for _, pdu := range split(&t.requests) {
		if late := t.late(); late != nil {
			forward = append(forward, late...)
		}
		t.follow(pdu)
		forward = append(forward, pdu...)
	}
	return forward
}

func (t *replayTap) follow(pdu []byte) {
	if pdu[0] != kindCommand || pdu[8] != opWrite || len(pdu) <= 72 {
		return
	}
	block := uint64(binary.LittleEndian.Uint32(pdu[12:]))<<48 | binary.LittleEndian.Uint64(pdu[48:])
	t.under[binary.LittleEndian.Uint16(pdu[10:])] = block
	if t.kept[block] == nil {
		t.kept[block] = append([]byte(nil), pdu...)
		binary.LittleEndian.PutUint16(t.kept[block][10:], replayedCid)
	}
}

// late returns the capsule to send now, if its block has had two acknowledged writes.
func (t *replayTap) late() []byte {
	t.owner.mutex.Lock()
	defer t.owner.mutex.Unlock()
	if t.open || t.owner.replayed >= t.owner.Most {
		return nil
	}
	for block, count := range t.acked {
		if count >= 2 {
			capsule := t.kept[block]
			delete(t.acked, block)
			t.owner.replayed++
			t.open = true
			return capsule
		}
	}
	return nil
}

func (t *replayTap) Answers(data []byte) []byte {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.answers = append(t.answers, data...)
	var forward []byte
	for _, pdu := range split(&t.answers) {
		if pdu[0] == kindResponse && len(pdu) >= 24 {
			cid := binary.LittleEndian.Uint16(pdu[20:])
			if cid == replayedCid {
				t.open = false
				continue
			}
			if block, found := t.under[cid]; found && binary.LittleEndian.Uint16(pdu[22:])>>1 == 0 {
				t.acked[block]++
			}
			delete(t.under, cid)
		}
		forward = append(forward, pdu...)
	}
	return forward
}
