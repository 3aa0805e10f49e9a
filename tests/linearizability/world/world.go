// SPDX-License-Identifier: Apache-2.0

// Package world contains the parts of a run: targets with disks, targets as gateways to them, proxies between them, and
// hosts.
package world

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"linearizability/history"
	"linearizability/target"
)

// Time for a host's first association with a target.
const connectTime = time.Minute

// Options of a run.
type Options struct {
	Program  string // sma-target
	Folder   string // for logs, sockets and disks
	Hosts    int
	Direct   bool // hosts also have links to the storage targets
	Gateways int
	// The timeout of a gateway's I/O on a path, after which the path is dropped; 0: none.
	PathTimeout time.Duration
	// How long a host waits for an answer before it aborts the command; 0: CommandTimeout.
	Patience time.Duration
	// A gateway uses both paths at once.
	ActiveActive bool
	// Maximum number of times that a gateway may send a write again while the host waits for its answer.
	Repeats int
	Verbose bool
}

func (w *World) patience() time.Duration {
	if w.Options.Patience > 0 {
		return w.Options.Patience
	}
	return CommandTimeout
}

// Disk as seen by hosts.
type Disk struct {
	Name string
	UUID [16]byte
}

// Server is a target that hosts connect to.
type Server struct {
	Name      string
	Target    *target.Target
	Subsystem string
	Port      int
	Disks     []string // names of the exported disks, independent of faults
	life      int32
}

func (s *Server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Life returns how often the target was killed.
func (s *Server) Life() int { return int(atomic.LoadInt32(&s.life)) }

// World of a run.
type World struct {
	Options
	Recorder *history.Recorder
	Disks    []*Disk
	Stores   []*Store
	Gateways []*Gateway
	Hosts    []*Host

	repeats    int
	begun      int64 // when the load started
	stop       chan struct{}
	background sync.WaitGroup
	logMutex   sync.Mutex
	logFile    *os.File
}

// New creates an empty world.
func New(options Options) (*World, error) {
	file, err := os.Create(filepath.Join(options.Folder, "events.log"))
	if err != nil {
		return nil, err
	}
	return &World{Options: options, Recorder: history.NewRecorder(), repeats: options.Repeats,
		stop: make(chan struct{}), logFile: file}, nil
}

func (w *World) log(format string, arguments ...interface{}) {
	w.logMutex.Lock()
	defer w.logMutex.Unlock()
	text := fmt.Sprintf("%.6f ", float64(w.Recorder.Now())/1e9) + fmt.Sprintf(format, arguments...)
	fmt.Fprintln(w.logFile, text)
	if w.Verbose {
		fmt.Fprintln(os.Stderr, text)
	}
}

func (w *World) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// pause waits, at most until the run ends.
func (w *World) pause(duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.stop:
	}
}

func (w *World) diskByUUID(id [16]byte) *Disk {
	for _, disk := range w.Disks {
		if disk.UUID == id {
			return disk
		}
	}
	return nil
}

// Disk returns the disk with this name.
func (w *World) Disk(name string) *Disk {
	for _, disk := range w.Disks {
		if disk.Name == name {
			return disk
		}
	}
	return nil
}

// addDisk registers a target's bdev as a disk.
func (w *World) addDisk(on *target.Target, bdev, name string) error {
	text, err := on.Bdev(bdev)
	if err != nil {
		return err
	}
	id, err := hex.DecodeString(text)
	if err != nil || len(id) != 16 {
		return fmt.Errorf("UUID %q of %s", text, bdev)
	}
	disk := &Disk{Name: name}
	copy(disk.UUID[:], id)
	w.Disks = append(w.Disks, disk)
	return nil
}

// AddHost creates a host with links to all gateways and, with Direct, to all stores.
func (w *World) AddHost() (*Host, error) {
	host := newHost(w, len(w.Hosts))
	for _, gateway := range w.Gateways {
		link, err := newLink(host, &gateway.Server, false)
		if err != nil {
			return nil, err
		}
		host.Links = append(host.Links, link)
	}
	for _, store := range w.Stores {
		if !w.Direct {
			break
		}
		link, err := newLink(host, &store.Server, true)
		if err != nil {
			return nil, err
		}
		host.Links = append(host.Links, link)
	}
	host.active = int32(len(w.Hosts) % len(host.Links))
	w.Hosts = append(w.Hosts, host)
	return host, nil
}

// ConnectHosts connects the first associations. An attempt on a loaded machine may take longer than a host waits.
func (w *World) ConnectHosts() error {
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			var err error
			connected := func() bool {
				err = link.connect()
				return err == nil
			}
			if WaitFor(connectTime, "connected", connected) != nil {
				return fmt.Errorf("%s to %s: %w", host.Name, link.Name, err)
			}
		}
	}
	return nil
}

// Servers returns all targets that hosts may connect to.
func (w *World) Servers() (all []*Server) {
	for _, store := range w.Stores {
		all = append(all, &store.Server)
	}
	for _, gateway := range w.Gateways {
		all = append(all, &gateway.Server)
	}
	return all
}

// WaitFor waits for a condition. Returns an error with `what` after the timeout.
func WaitFor(timeout time.Duration, what string, condition func() bool) error {
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not so after %v: %s", timeout, what)
		}
	}
	return nil
}

// Close ends everything. Returns an error if a target failed.
func (w *World) Close() (err error) {
	if !w.stopped() {
		close(w.stop)
	}
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			link.Proxy.Heal()
		}
	}
	w.background.Wait()
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			if controller := link.Current(); controller != nil {
				controller.Close()
			}
			link.Proxy.Close()
		}
	}
	for index := len(w.Gateways) - 1; index >= 0; index-- {
		if failed := w.Gateways[index].Target.Stop(); failed != nil {
			err = failed
		}
	}
	for _, store := range w.Stores {
		if failed := store.Target.Stop(); failed != nil {
			err = failed
		}
	}
	for _, gateway := range w.Gateways {
		for _, path := range gateway.Paths {
			path.Close()
		}
	}
	w.logFile.Close()
	return err
}
