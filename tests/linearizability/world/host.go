// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"math/rand"
	"sync/atomic"
	"time"

	"linearizability/history"
	"linearizability/nvme"
)

const (
	ioQueues = 2
	// CommandTimeout is the time after which a host aborts a command; the host drops the association if the command
	// does not end within abortGrace after that.
	CommandTimeout = 800 * time.Millisecond
	abortGrace     = 200 * time.Millisecond
)

// Host uses disks through several links, like Linux and SPDK: it aborts I/O that is not answered in time, then drops
// the association, reconnects, and continues on another link.
type Host struct {
	Name     string
	Identity nvme.Host
	Links    []*Link
	world    *World
	active   int32 // the preferred link
}

func newHost(w *World, index int) *Host {
	host := &Host{Name: fmt.Sprintf("host%d", index+1), world: w}
	host.Identity.ID = [16]byte{0x11, 0x22, byte(index + 1), 15: 1}
	host.Identity.NQN = "nqn.2014-08.org.example:" + host.Name
	return host
}

// Link returns the link to the target with this name.
func (h *Host) Link(name string) *Link {
	for _, link := range h.Links {
		if link.Name == name {
			return link
		}
	}
	return nil
}

// Result of one I/O, for scripted runs.
type Result struct {
	Sent    bool
	Value   int64
	Status  nvme.Status
	Outcome history.Outcome
	Aborted bool
	Strange bool // the data read were not written to that block
	Note    string
}

// choose returns a link with this disk, preferably the active one.
func (h *Host) choose(random *rand.Rand, disk string) *Link {
	first := int(atomic.LoadInt32(&h.active))
	if random.Intn(5) == 0 {
		first = random.Intn(len(h.Links))
	}
	for offset := range h.Links {
		link := h.Links[(first+offset)%len(h.Links)]
		link.mutex.Lock()
		_, found := link.namespaces[disk]
		usable := found && link.controller != nil && !link.paused
		link.mutex.Unlock()
		if usable {
			return link
		}
	}
	return nil
}

// failOver activates another link.
func (h *Host) failOver(from *Link) {
	for index, link := range h.Links {
		if link == from {
			atomic.CompareAndSwapInt32(&h.active, int32(index), int32((index+1)%len(h.Links)))
		}
	}
}

// Write writes a new value to a block and records the result.
func (h *Host) Write(link *Link, disk *Disk, lba uint64, queue int, inCapsule bool) Result {
	return h.run(link, disk, lba, history.Write, queue, inCapsule)
}

// Read reads a block and records the result.
func (h *Host) Read(link *Link, disk *Disk, lba uint64, queue int) Result {
	return h.run(link, disk, lba, history.Read, queue, false)
}

// Flush is not recorded: all guarantees hold without it.
func (h *Host) Flush(link *Link, disk *Disk, queue int) {
	controller, nsid := link.acquire(disk.Name)
	if controller == nil {
		return
	}
	defer link.release()
	if command, err := controller.Flush(queue%controller.Queues(), nsid); err == nil {
		if _, err = command.Wait(4 * CommandTimeout); err != nil {
			link.Lose(controller)
		}
	}
}

func (h *Host) run(link *Link, disk *Disk, lba uint64, kind history.Kind, queue int, inCapsule bool) Result {
	controller, nsid := link.acquire(disk.Name)
	if controller == nil {
		return Result{Note: "no namespace for the disk"}
	}
	defer link.release()
	life, repeats := link.server.Life(), 0
	if !link.direct {
		repeats = h.world.repeats
	}
	queue %= controller.Queues()
	path := fmt.Sprintf("%s queue %d", link.Name, queue+1)
	op := h.world.Recorder.Begin(kind, history.Block{Disk: disk.Name, LBA: lba}, h.Name, path, repeats)
	var command *nvme.Command
	var err error
	if kind == history.Write {
		command, err = controller.Write(queue, nsid, lba, encode(disk.UUID, lba, op.Value), 1, inCapsule)
	} else {
		command, err = controller.Read(queue, nsid, lba, BlockBytes, 1)
	}
	if err != nil {
		h.world.Recorder.Fail(op, "not sent", true)
		go link.Lose(controller)
		return Result{Note: "not sent"}
	}
	answer, err := command.Wait(h.world.patience())
	aborted := false
	if errors.Is(err, nvme.ErrTimeout) {
		answer, aborted, err = abort(controller, queue, command)
	}
	result := h.record(link, disk, op, life, answer, aborted, err)
	if errors.Is(err, nvme.ErrLost) {
		h.failOver(link)
		link.Lose(controller)
	}
	return result
}

// abort ends an unanswered command: by an Abort command or, if that fails, with its association.
func abort(controller *nvme.Controller, queue int, command *nvme.Command) (answer nvme.Completion, aborted bool, err error) {
	aborted, _ = controller.Abort(queue, command)
	answer, err = command.Wait(abortGrace)
	if errors.Is(err, nvme.ErrTimeout) && !aborted {
		controller.Close()
		answer, err = command.Wait(time.Hour) // returns at once: lost
	}
	return answer, aborted, err
}

func (h *Host) record(link *Link, disk *Disk, op *history.Op, life int, answer nvme.Completion, aborted bool,
	err error) Result {
	recorder := h.world.Recorder
	result := Result{Sent: true, Outcome: history.Unknown, Status: answer.Status.Code(), Aborted: aborted}
	switch {
	case err == nil && answer.Status == 0:
		return h.succeed(disk, op, answer.Data)
	case aborted:
		result.Note = "aborted"
	case err == nil:
		result.Note = fmt.Sprintf("status %#x", answer.Status.Code())
	default:
		result.Note = err.Error()
	}
	// An error from a target with the disk is final; an intermediate host may not know what happened on the way to the
	// disk.
	final := aborted || err == nil && link.direct
	recorder.Fail(op, result.Note, final)
	if !final && op.Kind == history.Write {
		link.remember(op, life)
	}
	return result
}

func (h *Host) succeed(disk *Disk, op *history.Op, data []byte) Result {
	value, lba := op.Value, op.Block.LBA
	if op.Kind == history.Read {
		var err error
		value, err = decode(disk.UUID, lba, data)
		if err != nil {
			h.world.Recorder.Strange("block %d of %s %v, read by #%d of %s via %s",
				lba, disk.Name, err, op.ID, op.Host, op.Path)
			h.world.Recorder.Fail(op, "strange", true)
			return Result{Sent: true, Note: err.Error(), Strange: true}
		}
	}
	h.world.Recorder.Succeed(op, value)
	return Result{Sent: true, Outcome: history.OK, Value: value}
}
