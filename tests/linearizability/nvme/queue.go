// SPDX-License-Identifier: Apache-2.0

package nvme

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// ErrLost is the result of a command whose connection ended before its answer: it may or may not have been executed.
var ErrLost = errors.New("connection lost before the answer")

// ErrTimeout is returned by Wait. The command stays outstanding.
var ErrTimeout = errors.New("no answer in time")

// Command is a submitted command.
type Command struct {
	cid     uint16
	write   []byte // data sent after an R2T
	read    []byte
	done    chan struct{}
	result  Completion
	err     error
	onEvent bool
}

// Cid is the command identifier.
func (c *Command) Cid() uint16 { return c.cid }

// Wait waits for the answer. Returns nil, ErrLost, or ErrTimeout.
func (c *Command) Wait(timeout time.Duration) (Completion, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.result, c.err
	case <-timer.C:
		return Completion{}, ErrTimeout
	}
}

// Queue is a queue pair: one connection. Thread-safe.
type Queue struct {
	id       uint16
	conn     *net.TCPConn
	maxData  int // MAXH2CDATA
	inFlight map[uint16]*Command
	nextCid  uint16
	lost     error
	mutex    sync.Mutex
	sending  sync.Mutex
	closed   chan struct{}
	hold     chan struct{} // closed to release held data; nil: no data is held
	held     bool
}

func openQueue(address string, id uint16, timeout time.Duration) (*Queue, error) {
	connected, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	conn := connected.(*net.TCPConn)
	// A closed connection is reset: an orderly close would let the rest of the send buffer arrive later.
	conn.SetLinger(0)
	conn.SetDeadline(time.Now().Add(timeout))
	answer := make([]byte, icBytes)
	if _, err = conn.Write(icRequest()); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && answer[0] != pduICResp {
		err = fmt.Errorf("PDU type %#x in place of ICResp", answer[0])
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	q := &Queue{id: id, conn: conn, maxData: int(binary.LittleEndian.Uint32(answer[12:])),
		inFlight: map[uint16]*Command{}, closed: make(chan struct{})}
	go q.receive()
	return q, nil
}

// LocalAddr returns the local address of the connection.
func (q *Queue) LocalAddr() string { return q.conn.LocalAddr().String() }

// Close resets the connection; outstanding commands end with ErrLost.
func (q *Queue) Close() {
	q.fail(errors.New("closed by the host"))
	<-q.closed
}

func (q *Queue) fail(reason error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if q.lost != nil {
		return
	}
	q.lost = reason
	q.conn.Close()
	for cid, command := range q.inFlight {
		command.err = fmt.Errorf("%w (%v)", ErrLost, reason)
		close(command.done)
		delete(q.inFlight, cid)
	}
}

// Submit sends a command. With inCapsule its data are in the capsule, otherwise the controller requests them.
func (q *Queue) Submit(sqe *Sqe, write []byte, inCapsule bool, readBytes int) (*Command, error) {
	command := &Command{done: make(chan struct{})}
	switch {
	case len(write) > 0 && inCapsule:
		sqe.setSgl(sglInCapsule, len(write))
	case len(write) > 0:
		command.write = write
		sqe.setSgl(sglTransport, len(write))
	case readBytes > 0:
		command.read = make([]byte, readBytes)
		sqe.setSgl(sglTransport, readBytes)
	}
	if err := q.register(command); err != nil {
		return nil, err
	}
	sqe.setCid(command.cid)
	pdu := pduHeader(PduCapsuleCmd, 0, capsuleHeader, 0, capsuleHeader)
	copy(pdu[commonHeaderBytes:], sqe[:])
	if len(write) > 0 && inCapsule {
		pdu[3] = capsuleHeader
		binary.LittleEndian.PutUint32(pdu[4:], uint32(capsuleHeader+len(write)))
		pdu = append(pdu, write...)
	}
	q.send(pdu)
	return command, nil
}

func (q *Queue) register(command *Command) error {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if q.lost != nil {
		return q.lost
	}
	for used := true; used; {
		q.nextCid = (q.nextCid + 1) & 0x7fff
		_, used = q.inFlight[q.nextCid]
	}
	command.cid = q.nextCid
	q.inFlight[command.cid] = command
	return nil
}

func (q *Queue) send(pdu []byte) {
	q.sending.Lock()
	_, err := q.conn.Write(pdu)
	q.sending.Unlock()
	if err != nil {
		q.fail(err)
	}
}

// HoldData holds the data that the controller requests for writes (R2T), and everything sent on this connection after
// that, until `release` is called.
func (q *Queue) HoldData() (release func()) {
	hold := make(chan struct{})
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.hold = hold
	return func() {
		q.mutex.Lock()
		defer q.mutex.Unlock()
		q.hold, q.held = nil, false
		close(hold)
	}
}

// Holding returns true if data are held.
func (q *Queue) Holding() bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	return q.held
}

// InFlight returns the number of commands without an answer.
func (q *Queue) InFlight() int {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	return len(q.inFlight)
}

func (q *Queue) receive() {
	defer close(q.closed)
	for {
		if err := q.receivePdu(); err != nil {
			q.fail(err)
			return
		}
	}
}

func (q *Queue) receivePdu() error {
	header := make([]byte, commonHeaderBytes)
	if _, err := io.ReadFull(q.conn, header); err != nil {
		return err
	}
	size := int(binary.LittleEndian.Uint32(header[4:]))
	if size < commonHeaderBytes || size > maxPduBytes {
		return fmt.Errorf("PDU of %d bytes", size)
	}
	body := make([]byte, size)
	copy(body, header)
	if _, err := io.ReadFull(q.conn, body[commonHeaderBytes:]); err != nil {
		return err
	}
	if len(body) < dataHeaderBytes {
		return fmt.Errorf("PDU type %#x of %d bytes", header[0], size)
	}
	switch header[0] {
	case pduCapsuleRsp:
		return q.onResponse(body)
	case pduC2HData:
		return q.onData(body)
	case pduR2T:
		return q.onR2T(body)
	}
	return fmt.Errorf("unexpected PDU type %#x: % x", header[0], body[:dataHeaderBytes])
}

func (q *Queue) find(cid uint16) (*Command, error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if command, found := q.inFlight[cid]; found {
		return command, nil
	}
	return nil, fmt.Errorf("PDU for command %d, which is not outstanding", cid)
}

func (q *Queue) complete(command *Command, result Completion) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if q.inFlight[command.cid] != command {
		return
	}
	delete(q.inFlight, command.cid)
	result.Data = command.read
	command.result = result
	close(command.done)
}

func (q *Queue) onResponse(pdu []byte) error {
	cqe := pdu[commonHeaderBytes:]
	command, err := q.find(binary.LittleEndian.Uint16(cqe[12:]))
	if err != nil {
		return err
	}
	q.complete(command, Completion{Dword0: binary.LittleEndian.Uint32(cqe),
		Status: Status(binary.LittleEndian.Uint16(cqe[14:]) >> 1)})
	return nil
}

func (q *Queue) onData(pdu []byte) error {
	command, err := q.find(binary.LittleEndian.Uint16(pdu[8:]))
	if err != nil {
		return err
	}
	begin, offset := int(pdu[3]), int(binary.LittleEndian.Uint32(pdu[12:]))
	length := int(binary.LittleEndian.Uint32(pdu[16:]))
	if begin < dataHeaderBytes || begin+length > len(pdu) || offset+length > len(command.read) {
		return fmt.Errorf("C2HData of %d bytes at offset %d", length, offset)
	}
	copy(command.read[offset:], pdu[begin:begin+length])
	if pdu[1]&flagDataSuccess != 0 {
		q.complete(command, Completion{})
	}
	return nil
}

func (q *Queue) waitForRelease() {
	q.mutex.Lock()
	hold := q.hold
	q.held = hold != nil
	q.mutex.Unlock()
	if hold != nil {
		<-hold
	}
}

func (q *Queue) onR2T(pdu []byte) error {
	q.waitForRelease()
	command, err := q.find(binary.LittleEndian.Uint16(pdu[8:]))
	if err != nil {
		return err
	}
	offset := int(binary.LittleEndian.Uint32(pdu[12:]))
	length := int(binary.LittleEndian.Uint32(pdu[16:]))
	if offset+length > len(command.write) {
		return fmt.Errorf("R2T for %d bytes at offset %d", length, offset)
	}
	for length > 0 {
		part := length
		if q.maxData > 0 && part > q.maxData {
			part = q.maxData
		}
		var flags byte
		if part == length {
			flags = flagDataLast
		}
		data := pduHeader(pduH2CData, flags, dataHeaderBytes, dataHeaderBytes, dataHeaderBytes+part)
		copy(data[8:12], pdu[8:12]) // CCCID and TTAG
		binary.LittleEndian.PutUint32(data[12:], uint32(offset))
		binary.LittleEndian.PutUint32(data[16:], uint32(part))
		q.send(append(data, command.write[offset:offset+part]...))
		offset, length = offset+part, length-part
	}
	return nil
}
