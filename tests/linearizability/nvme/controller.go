// SPDX-License-Identifier: Apache-2.0

package nvme

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

const (
	queueEntries = 64
	// AdminTimeout is the timeout of a command on the admin queue, and of a connection attempt.
	AdminTimeout = 3 * time.Second
	kato         = 4 * time.Second
)

// Host identifies the host: the target distinguishes hosts by both values.
type Host struct {
	NQN string
	ID  [16]byte
}

// Namespace is an active namespace. UUID is from the Namespace Identification Descriptors.
type Namespace struct {
	ID   uint32
	UUID [16]byte
}

// Controller is an association: an admin queue and I/O queues.
type Controller struct {
	Connected time.Time // when the Connect of the admin queue was answered
	admin     *Queue
	queues    []*Queue
	id        uint16
	inCapsule int
	stop      chan struct{}
	stopping  sync.Once
}

// Connect creates an association with up to `queues` I/O queues. onNamespaces is called, in a separate goroutine, when
// the controller reports a change of its namespaces; it must call Namespaces.
func Connect(address, subsystem string, host Host, queues int,
	onNamespaces func(*Controller)) (*Controller, error) {
	admin, err := openQueue(address, 0, AdminTimeout)
	if err != nil {
		return nil, err
	}
	c := &Controller{admin: admin, id: 0xffff, stop: make(chan struct{})}
	if err = c.start(address, subsystem, host, queues); err != nil {
		c.Close()
		return nil, err
	}
	go c.keepAlive()
	go c.watchEvents(onNamespaces)
	return c, nil
}

func (c *Controller) start(address, subsystem string, host Host, queues int) error {
	id, err := connectQueue(c.admin, subsystem, host, 0xffff)
	if err != nil {
		return err
	}
	c.id, c.Connected = id, time.Now()
	if err := c.enable(); err != nil {
		return err
	}
	answer, err := c.call(identify(identifyController, 0), 4096)
	if err != nil {
		return err
	}
	// IOCCSZ: the capsule's size in units of 16 bytes, with the submission queue entry.
	c.inCapsule = int(binary.LittleEndian.Uint32(answer.Data[1792:]))*16 - SqeBytes
	sqe := newSqe(opAdminSetFeatures, 0)
	sqe.setDword(10, featureNumberOfQueues)
	sqe.setDword(11, uint32(queues-1)|uint32(queues-1)<<16)
	if answer, err = c.call(sqe, 0); err != nil {
		return err
	}
	if granted := int(answer.Dword0&0xffff) + 1; granted < queues {
		queues = granted
	}
	sqe = newSqe(opAdminSetFeatures, 0)
	sqe.setDword(10, featureAsyncEvents)
	sqe.setDword(11, 1<<8) // Namespace Attribute Notices
	if _, err = c.call(sqe, 0); err != nil {
		return err
	}
	for qid := 1; qid <= queues; qid++ {
		queue, err := openQueue(address, uint16(qid), AdminTimeout)
		if err != nil {
			return err
		}
		c.queues = append(c.queues, queue)
		if _, err = connectQueue(queue, subsystem, host, c.id); err != nil {
			return err
		}
	}
	return nil
}

func connectQueue(queue *Queue, subsystem string, host Host, controller uint16) (uint16, error) {
	sqe := fabricsSqe(fctypeConnect)
	sqe.setDword(10, uint32(queue.id)<<16) // record format 0
	sqe.setDword(11, queueEntries-1)
	if queue.id == 0 {
		sqe.setDword(12, uint32(kato/time.Millisecond))
	}
	data := make([]byte, 1024)
	copy(data, host.ID[:])
	binary.LittleEndian.PutUint16(data[16:], controller)
	copy(data[256:511], subsystem)
	copy(data[512:767], host.NQN)
	command, err := queue.Submit(sqe, data, true, 0)
	if err != nil {
		return 0, err
	}
	// A controller may delay a Connect until the host's previous association has ended.
	answer, err := command.Wait(4 * AdminTimeout)
	if err == nil && answer.Status != 0 {
		err = fmt.Errorf("Connect of queue %d: status %#x", queue.id, answer.Status)
	}
	return uint16(answer.Dword0), err
}

func (c *Controller) enable() error {
	sqe := fabricsSqe(fctypePropertySet)
	sqe.setDword(11, propertyCC)
	sqe.setDword(12, 6<<16|4<<20|1) // IOSQES 64 bytes, IOCQES 16 bytes, EN
	if _, err := c.call(sqe, 0); err != nil {
		return err
	}
	for deadline := time.Now().Add(AdminTimeout); ; {
		sqe = fabricsSqe(fctypePropertyGet)
		sqe.setDword(11, propertyCSTS)
		answer, err := c.call(sqe, 0)
		if err != nil {
			return err
		}
		if answer.Dword0&1 != 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("controller not ready, CSTS %#x", answer.Dword0)
		}
	}
}

func identify(cns byte, nsid uint32) *Sqe {
	sqe := newSqe(opAdminIdentify, nsid)
	sqe.setDword(10, uint32(cns))
	return sqe
}

// call runs an admin command. Returns an error also if its status is not success.
func (c *Controller) call(sqe *Sqe, readBytes int) (Completion, error) {
	command, err := c.admin.Submit(sqe, nil, false, readBytes)
	if err != nil {
		return Completion{}, err
	}
	answer, err := command.Wait(AdminTimeout)
	if err == nil && answer.Status != 0 {
		err = fmt.Errorf("admin command %#x: status %#x", sqe[0], answer.Status)
	}
	return answer, err
}

// Namespaces reads the Changed Namespace List, so that the next change is reported, and then all active namespaces. The
// caller must have no outstanding I/O: see docs/consistency.md.
func (c *Controller) Namespaces() ([]Namespace, error) {
	sqe := newSqe(opAdminGetLogPage, 0xffffffff)
	sqe.setDword(10, logChangedNamespaces|(4096/4-1)<<16)
	if _, err := c.call(sqe, 4096); err != nil {
		return nil, err
	}
	list, err := c.call(identify(identifyActiveList, 0), 4096)
	if err != nil {
		return nil, err
	}
	var found []Namespace
	for at := 0; at < len(list.Data); at += 4 {
		nsid := binary.LittleEndian.Uint32(list.Data[at:])
		if nsid == 0 {
			break
		}
		answer, err := c.call(identify(identifyDescriptors, nsid), 4096)
		if err != nil {
			continue // removed since the list was read; the next event reports it
		}
		if id, named := findUUID(answer.Data); named {
			found = append(found, Namespace{ID: nsid, UUID: id})
		}
	}
	return found, nil
}

func findUUID(descriptors []byte) (id [16]byte, found bool) {
	for at := 0; at+4 <= len(descriptors) && descriptors[at] != 0; at += 4 + int(descriptors[at+1]) {
		if descriptors[at] == descriptorUUID && descriptors[at+1] == 16 && at+20 <= len(descriptors) {
			copy(id[:], descriptors[at+4:])
			return id, true
		}
	}
	return id, false
}

// watchEvents keeps an Asynchronous Event Request outstanding.
func (c *Controller) watchEvents(onNamespaces func(*Controller)) {
	for {
		command, err := c.admin.Submit(newSqe(opAdminAsyncEvent, 0), nil, false, 0)
		if err != nil {
			return
		}
		<-command.done
		if command.err != nil || command.result.Status != 0 {
			return
		}
		// Notice, Namespace Attribute Changed.
		if event := command.result.Dword0; event&7 == 2 && event>>8&0xff == 0 {
			go onNamespaces(c)
		}
	}
}

func (c *Controller) keepAlive() {
	ticker := time.NewTicker(kato / 3)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			if _, err := c.call(newSqe(opAdminKeepAlive, 0), 0); err != nil {
				c.admin.fail(fmt.Errorf("keep alive: %w", err))
				return
			}
		}
	}
}

// Queue returns I/O queue number `index`, from 0.
func (c *Controller) Queue(index int) *Queue { return c.queues[index] }

// Queues returns the number of I/O queues.
func (c *Controller) Queues() int { return len(c.queues) }

// InFlight counts I/O commands without an answer.
func (c *Controller) InFlight() (count int) {
	for _, queue := range c.queues {
		count += queue.InFlight()
	}
	return count
}

// Alive returns false after one of its connections has ended.
func (c *Controller) Alive() bool {
	for _, queue := range append([]*Queue{c.admin}, c.queues...) {
		queue.mutex.Lock()
		lost := queue.lost
		queue.mutex.Unlock()
		if lost != nil {
			return false
		}
	}
	return true
}

// Write submits a write on I/O queue `queue`, from 0.
func (c *Controller) Write(queue int, nsid uint32, lba uint64, data []byte, blocks int,
	inCapsule bool) (*Command, error) {
	sqe := blockSqe(OpWrite, nsid, lba, blocks)
	return c.queues[queue].Submit(sqe, data, inCapsule && len(data) <= c.inCapsule, 0)
}

// Read submits a read.
func (c *Controller) Read(queue int, nsid uint32, lba uint64, bytes, blocks int) (*Command, error) {
	return c.queues[queue].Submit(blockSqe(OpRead, nsid, lba, blocks), nil, false, bytes)
}

// Flush submits a flush.
func (c *Controller) Flush(queue int, nsid uint32) (*Command, error) {
	return c.queues[queue].Submit(blockSqe(OpFlush, nsid, 0, 0), nil, false, 0)
}

// Abort sends an Abort command for a command of an I/O queue. Returns true if the controller has aborted it (bit 0 of
// dword 0 is clear, Base Specification 5.1).
func (c *Controller) Abort(queue int, command *Command) (bool, error) {
	sqe := newSqe(opAdminAbort, 0)
	sqe.setDword(10, uint32(c.queues[queue].id)|uint32(command.cid)<<16)
	answer, err := c.call(sqe, 0)
	return err == nil && answer.Dword0&1 == 0, err
}

// LocalAddrs returns the local addresses of its connections.
func (c *Controller) LocalAddrs() []string {
	addresses := []string{c.admin.LocalAddr()}
	for _, queue := range c.queues {
		addresses = append(addresses, queue.LocalAddr())
	}
	return addresses
}

// Close resets all connections.
func (c *Controller) Close() {
	c.stopping.Do(func() { close(c.stop) })
	c.admin.Close()
	for _, queue := range c.queues {
		queue.Close()
	}
}
