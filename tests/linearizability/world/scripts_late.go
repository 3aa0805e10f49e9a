// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"sync"
	"time"

	"linearizability/proxy"
	"linearizability/target"
)

// lateWaiting: a write waits at gateway 1, whose paths are cut; the host aborts it, or drops its association and
// connects a new one, writes twice over gateway 2, and the paths reconnect.
func lateWaiting(options Options) (*World, error) {
	w, err := scriptWorld(options, 2, true)
	if err != nil {
		return w, err
	}
	return w, w.late(func(path *proxy.Proxy) { path.Cut(true) }, false)
}

// lateFrozen: the same, but the write was sent on a path that silently drops data, and the gateway drops the path
// meanwhile.
func lateFrozen(options Options) (*World, error) {
	options.PathTimeout = 400 * time.Millisecond
	w, err := scriptWorld(options, 2, true)
	if err != nil {
		return w, err
	}
	return w, w.late(func(path *proxy.Proxy) { path.Freeze(proxy.Requests, proxy.Answers) }, true)
}

// lateFrozenCut: the same with a gateway without a path timeout.
func lateFrozenCut(options Options) (*World, error) {
	w, err := scriptWorld(options, 2, true)
	if err != nil {
		return w, err
	}
	return w, w.late(func(path *proxy.Proxy) { path.Freeze(proxy.Requests, proxy.Answers) }, false)
}

func (w *World) late(harm func(*proxy.Proxy), sent bool) error {
	first, second := w.Gateways[0], w.Gateways[1]
	host, disk := w.Hosts[0], w.Disk("one")
	link := host.Link(first.Name)
	if err := w.writeTwice(link, disk, 0); err != nil {
		return err
	}
	for _, path := range first.Paths {
		harm(path)
	}
	if !sent {
		if err := first.waitForPaths(0); err != nil {
			return err
		}
	}
	for queue := 0; queue < ioQueues; queue++ {
		w.log("old write: %+v", host.Write(link, disk, 0, queue, true))
	}
	// The writes end with their association, at the latest when the gateway has dropped the path.
	if err := WaitFor(20*time.Second, "the host is connected to "+first.Name, link.ready); err != nil {
		return err
	}
	if err := w.writeTwice(host.Link(second.Name), disk, 0); err != nil {
		return err
	}
	for _, path := range first.Paths {
		path.Heal()
	}
	if err := w.Settle(); err != nil {
		return err
	}
	return w.readAllOf(disk, 3)
}

// lateRetry: a write was sent on a path that silently drops data; the gateway drops the path and sends the write on the
// other one, when the store must have ended the first one's association; after newer writes the first path recovers.
func lateRetry(options Options) (*World, error) {
	options.PathTimeout = 300 * time.Millisecond
	options.Patience = 15 * time.Second
	w, err := scriptWorld(options, 1, true)
	if err != nil {
		return w, err
	}
	gateway, host, disk := w.Gateways[0], w.Hosts[0], w.Disk("one")
	link := host.Link(gateway.Name)
	for round, path := range gateway.Paths {
		path.Freeze(proxy.Requests, proxy.Answers)
		// In sequence, so that each queue has used the frozen path if it uses it at all.
		for queue := 0; queue < ioQueues; queue++ {
			lba := uint64(round*ioQueues + queue)
			w.log("write while %s is frozen: %+v", path.Name, host.Write(link, disk, lba, queue, true))
			if err := w.writeTwice(link, disk, lba); err != nil {
				return w, err
			}
		}
		path.Heal()
		if err := w.Settle(); err != nil {
			return w, err
		}
	}
	return w, w.readAllOf(disk, 2)
}

// lateStopped: a store is stopped with a write in its socket; the host aborts the write at gateway 1, or connects a new
// association, and writes over gateway 2; the store continues and finds both.
func lateStopped(options Options) (*World, error) {
	w, err := scriptWorld(options, 2, true)
	if err != nil {
		return w, err
	}
	store, host, disk := w.Stores[0].Target, w.Hosts[0], w.Disk("one")
	first, second := host.Link("gateway1"), host.Link("gateway2")
	const rounds = 3
	for round := uint64(0); round < rounds; round++ {
		if err := w.writeTwice(first, disk, round); err != nil {
			return w, err
		}
		store.Pause()
		w.log("old write: %+v", host.Write(first, disk, round, int(round), true))
		// Without a new association the end of the write is unknown, which is harmless.
		ended := WaitFor(3*time.Second, "the host is connected", first.ready) == nil
		wait := inBackground(func() Result { return host.Write(second, disk, round, int(round/2), true) })
		err := underWay(second)
		store.Continue()
		w.log("write after it: %+v, the end of the old one known: %v", wait(), ended)
		if err != nil {
			return w, err
		}
		if err := w.Settle(); err != nil {
			return w, err
		}
		if err := w.readAllOf(disk, 1); err != nil {
			return w, err
		}
	}
	return w, nil
}

// lateLimit: writes wait at a limit of the store; the host drops its association, connects a new one, writes and reads.
func lateLimit(options Options) (*World, error) {
	w, err := scriptWorld(options, 0, true)
	if err != nil {
		return w, err
	}
	host, disk := w.Hosts[0], w.Disk("one")
	link := host.Links[0]
	limit := func(rate int) error {
		_, err := w.Stores[0].Target.Call("bdev_set_qos_limit",
			target.Params{"name": "one", "w_mbytes_per_sec": rate})
		return err
	}
	if err := limit(1); err != nil {
		return w, err
	}
	// At 256 writes per second these take almost half a second.
	var writers sync.WaitGroup
	const waiting, blocks = 110, 20
	for count := 0; count < waiting; count++ {
		writers.Add(1)
		go func(count int) {
			defer writers.Done()
			host.Write(link, disk, uint64(count%blocks), count, true)
		}(count)
	}
	if err := WaitFor(10*time.Second, "writes wait at the limit", func() bool {
		return link.Current().InFlight() > waiting/2
	}); err != nil {
		return w, err
	}
	link.Lose(link.Current())
	writers.Wait()
	if err := WaitFor(30*time.Second, "a new association", link.ready); err != nil {
		return w, err
	}
	// Reads are not limited: they also see writes that are executed before the first new write.
	first := inBackground(func() Result { return host.Write(link, disk, 0, 1, true) })
	for count := 0; count < 20*blocks; count++ {
		if err := must(host.Read(link, disk, uint64(count%blocks), count)); err != nil {
			return w, err
		}
	}
	if err := must(first()); err != nil {
		return w, err
	}
	if err := limit(0); err != nil {
		return w, err
	}
	return w, w.readAllOf(disk, 1)
}

// planted: a proxy repeats a write after a newer one was acknowledged. The judge must detect it.
func planted(options Options) (*World, error) {
	w, err := scriptWorld(options, 0, true)
	if err != nil {
		return w, err
	}
	host, disk := w.Hosts[0], w.Disk("one")
	link := host.Links[0]
	replayer := &proxy.Replayer{Most: 1}
	link.Proxy.Tap(replayer.Tap)
	link.Lose(link.Current())
	if err := WaitFor(20*time.Second, "a new association", link.ready); err != nil {
		return w, err
	}
	for count := 0; count < 10; count++ {
		if err := must(host.Write(link, disk, uint64(count%2), 0, true)); err != nil {
			return w, err
		}
		if err := must(host.Read(link, disk, uint64(count%2), 0)); err != nil {
			return w, err
		}
	}
	if replayer.Planted() != 1 {
		return w, fmt.Errorf("%d late writes were planted in place of one", replayer.Planted())
	}
	return w, nil
}
