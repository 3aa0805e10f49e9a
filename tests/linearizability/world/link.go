// SPDX-License-Identifier: Apache-2.0

package world

import (
	"sync"
	"time"

	"linearizability/history"
	"linearizability/nvme"
	"linearizability/proxy"
)

// Link is a host's connection to one target: an association that is recreated whenever it ends.
type Link struct {
	host      *Host
	Name      string
	Proxy     *proxy.Proxy
	subsystem string
	server    *Server
	direct    bool // to the target with the disks

	mutex      sync.Mutex
	idle       *sync.Cond
	controller *nvme.Controller
	namespaces map[string]uint32 // by disk
	inFlight   int
	paused     bool // while namespaces are reread
	connecting bool
	// Writes of earlier associations that may still take effect.
	unfenced []pending
	refresh  sync.Mutex
}

// pending is an unknown write, with the number of the target's life to which it was sent.
type pending struct {
	op   *history.Op
	life int
}

func newLink(host *Host, server *Server, direct bool) (*Link, error) {
	between, err := proxy.New(host.Name+"-"+server.Name, server.address())
	if err != nil {
		return nil, err
	}
	link := &Link{host: host, Name: server.Name, Proxy: between, subsystem: server.Subsystem, server: server,
		direct: direct}
	link.idle = sync.NewCond(&link.mutex)
	return link, nil
}

// acquire returns the controller for an I/O to `disk`, or nil if there is none now. Followed by release.
func (l *Link) acquire(disk string) (*nvme.Controller, uint32) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	nsid, found := l.namespaces[disk]
	if l.controller == nil || l.paused || !found {
		return nil, 0
	}
	l.inFlight++
	return l.controller, nsid
}

func (l *Link) release() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.inFlight--
	l.idle.Broadcast()
}

// remember stores a write that may take effect later, until a new association is connected.
func (l *Link) remember(op *history.Op, life int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.unfenced = append(l.unfenced, pending{op, life})
}

// onNamespaces rereads the namespaces while no I/O is outstanding.
func (l *Link) onNamespaces(controller *nvme.Controller) {
	l.refresh.Lock()
	defer l.refresh.Unlock()
	l.mutex.Lock()
	l.paused = true
	for l.inFlight > 0 && l.controller == controller {
		l.idle.Wait()
	}
	current := l.controller == controller
	l.mutex.Unlock()
	var found map[string]uint32
	if current {
		found = l.readNamespaces(controller)
	}
	l.mutex.Lock()
	if l.controller == controller {
		l.namespaces = found
	}
	l.paused = false
	l.mutex.Unlock()
}

func (l *Link) readNamespaces(controller *nvme.Controller) map[string]uint32 {
	found := map[string]uint32{}
	namespaces, err := controller.Namespaces()
	if err != nil {
		go l.Lose(controller)
		return nil
	}
	for _, one := range namespaces {
		if disk := l.host.world.diskByUUID(one.UUID); disk != nil {
			found[disk.Name] = one.ID
		}
	}
	return found
}

// Lose drops an association if it is the current one, and connects a new one.
func (l *Link) Lose(controller *nvme.Controller) {
	l.mutex.Lock()
	if l.controller != controller || controller == nil {
		l.mutex.Unlock()
		return
	}
	l.controller, l.namespaces = nil, nil
	l.idle.Broadcast()
	l.mutex.Unlock()
	controller.Close()
	l.host.world.background.Add(1)
	go func() {
		defer l.host.world.background.Done()
		l.reconnect(controller.LocalAddrs())
	}()
}

// Current returns the current association, or nil.
func (l *Link) Current() *nvme.Controller {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.controller
}

func (l *Link) reconnect(old []string) {
	l.mutex.Lock()
	for l.inFlight > 0 {
		l.idle.Wait()
	}
	l.mutex.Unlock()
	w := l.host.world
	// A new association fences the writes of the old one only if the target saw the old connections close before.
	gone := l.Proxy.WaitGone(old, 0)
	for !gone && !w.stopped() {
		gone = l.Proxy.WaitGone(old, 100*time.Millisecond)
	}
	for attempt := 0; !w.stopped(); attempt++ {
		if l.connect() == nil {
			return
		}
		w.pause(time.Duration(20+30*attempt%200) * time.Millisecond)
	}
}

// connect creates an association, which fences the unknown writes of the earlier ones.
func (l *Link) connect() error {
	life := l.server.Life()
	controller, err := nvme.Connect(l.Proxy.Address(), l.subsystem, l.host.Identity, ioQueues, l.onNamespaces)
	if err != nil {
		return err
	}
	w := l.host.world
	l.mutex.Lock()
	var fenced []*history.Op
	for _, one := range l.unfenced {
		// A killed target leaves its own remote connections to the kernel, which may still deliver sent data.
		if l.direct || one.life == life && l.server.Life() == life {
			fenced = append(fenced, one.op)
		}
	}
	l.unfenced = nil
	l.controller, l.paused = controller, true
	l.mutex.Unlock()
	w.Recorder.FenceAt(w.Recorder.At(controller.Connected), fenced)
	w.log("%s: new association with %s, %d unknown writes fenced", l.host.Name, l.Name, len(fenced))
	found := l.readNamespaces(controller)
	l.mutex.Lock()
	if l.controller == controller {
		l.namespaces = found
	}
	l.paused = false
	l.mutex.Unlock()
	return nil
}

// ready returns true if there is a working association.
func (l *Link) ready() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.controller != nil && !l.paused && l.namespaces != nil && l.controller.Alive()
}
