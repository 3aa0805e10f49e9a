// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"math/rand"
	"time"

	"linearizability/history"
)

const (
	blocksPerRound = 4                       // of each disk, used at a time
	roundTime      = 1500 * time.Millisecond // after which other blocks are used
	thinkTime      = 2 * time.Millisecond
	threadsPerHost = 3
)

// KeepLinksUp reconnects the links' associations when they end.
func (w *World) KeepLinksUp() {
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			w.background.Add(1)
			go func(link *Link) {
				defer w.background.Done()
				for !w.stopped() {
					if controller := link.Current(); controller != nil && !controller.Alive() {
						link.Lose(controller)
					}
					w.pause(20 * time.Millisecond)
				}
			}(link)
		}
	}
}

// Fill writes the initial value of the first blocks of all disks. Called before any other I/O; not recorded.
func (w *World) Fill(blocks uint64) error {
	for _, disk := range w.Disks {
		for lba := uint64(0); lba < blocks; lba += blocksPerRound {
			var data []byte
			for block := lba; block < lba+blocksPerRound; block++ {
				data = append(data, encode(disk.UUID, block, 0)...)
			}
			if err := w.fill(disk, lba, data); err != nil {
				return fmt.Errorf("block %d of %s: %w", lba, disk.Name, err)
			}
		}
	}
	return nil
}

func (w *World) fill(disk *Disk, lba uint64, data []byte) error {
	for _, link := range w.Hosts[0].Links {
		controller, nsid := link.acquire(disk.Name)
		if controller == nil {
			continue
		}
		defer link.release()
		command, err := controller.Write(0, nsid, lba, data, len(data)/BlockBytes, false)
		if err != nil {
			return err
		}
		answer, err := command.Wait(10 * time.Second)
		if err == nil && answer.Status != 0 {
			err = fmt.Errorf("status %#x", answer.Status)
		}
		return err
	}
	return errors.New("no link has the disk")
}

// blocksFor returns the number of blocks that a random run of this length uses.
func blocksFor(duration time.Duration) uint64 {
	return (uint64(duration/roundTime) + 40) * blocksPerRound
}

// round returns the first of the blocks that are currently written.
func (w *World) round() uint64 {
	return uint64((w.Recorder.Now()-w.begun)/int64(roundTime)) * blocksPerRound
}

// StartLoad makes all hosts read and write until `until` is closed.
func (w *World) StartLoad(seed int64, until <-chan struct{}) {
	for hostIndex, host := range w.Hosts {
		for thread := 0; thread < threadsPerHost; thread++ {
			w.background.Add(1)
			random := rand.New(rand.NewSource(seed<<8 + int64(hostIndex*threadsPerHost+thread)))
			go func(host *Host) {
				defer w.background.Done()
				for {
					select {
					case <-until:
						return
					default:
						w.oneOp(host, random)
					}
				}
			}(host)
		}
	}
}

func (w *World) oneOp(host *Host, random *rand.Rand) {
	disk := w.Disks[random.Intn(len(w.Disks))]
	link := host.choose(random, disk.Name)
	block := w.round() + uint64(random.Intn(blocksPerRound))
	kind, queue, inCapsule := random.Intn(100), random.Intn(ioQueues), random.Intn(3) > 0
	older := uint64(random.Int63n(int64(block + 1)))
	switch {
	case link == nil:
		w.pause(10 * time.Millisecond)
	case kind < 45:
		host.Write(link, disk, block, queue, inCapsule)
	case kind < 80:
		host.Read(link, disk, block, queue)
	case kind < 97:
		host.Read(link, disk, older, queue)
	default:
		host.Flush(link, disk, queue)
	}
	w.pause(time.Duration(random.Int63n(int64(2 * thinkTime))))
}

// Settle waits until all paths and links work.
func (w *World) Settle() error {
	for _, gateway := range w.Gateways {
		if err := WaitFor(30*time.Second, gateway.Name+" has all its paths", gateway.PathsUp); err != nil {
			return err
		}
		if err := gateway.Restore(); err != nil {
			return err
		}
	}
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			what := fmt.Sprintf("%s is connected to %s", host.Name, link.Name)
			if err := WaitFor(30*time.Second, what, link.ready); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadAll reads each block before `last` over each link of the first host to a target that exports it. Each read must
// succeed.
func (w *World) ReadAll(last uint64) error {
	for _, disk := range w.Disks {
		for _, link := range w.Hosts[0].Links {
			for lba := uint64(0); link.server.exports(disk.Name) && lba < last; lba++ {
				if err := w.readOnce(link, disk, lba); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readOnce reads until it succeeds, because a path may just be failing.
func (w *World) readOnce(link *Link, disk *Disk, lba uint64) error {
	var result Result
	what := fmt.Sprintf("block %d of %s is read via %s", lba, disk.Name, link.Name)
	err := WaitFor(20*time.Second, what, func() bool {
		result = w.Hosts[0].Read(link, disk, lba, int(lba))
		return result.Outcome == history.OK || result.Strange
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, result)
	}
	return nil
}

func (l *Link) has(disk string) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	_, found := l.namespaces[disk]
	return found
}

func (s *Server) exports(disk string) bool {
	for _, name := range s.Disks {
		if name == disk {
			return true
		}
	}
	return false
}
