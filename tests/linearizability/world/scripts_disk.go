// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"fmt"
	"time"

	"linearizability/target"
)

// wrongDiskSecondPath: the second path of a gateway leads to another disk under the same NSID, while the
// gateway uses both.
func wrongDiskSecondPath(options Options) (*World, error) {
	options.ActiveActive = true
	w, err := New(options)
	if err != nil {
		return nil, err
	}
	w.repeats = 2
	var stores []*Store
	for index, name := range []string{"one", "two"} {
		step, err := w.FileBdev("aio", name, index+1)
		if err != nil {
			return w, err
		}
		store, err := w.AddStore("store-"+name, "store", true, []target.Step{step}, name)
		if err != nil {
			return w, err
		}
		stores = append(stores, store)
		if err := w.addDisk(store.Target, name, name); err != nil {
			return w, err
		}
	}
	gateway, err := w.AddGateway(stores[:1], nil, "store-onen1")
	if err != nil {
		return w, err
	}
	if err := w.startScript(); err != nil {
		return w, err
	}
	gateway.Paths[1].Redirect(fmt.Sprintf("127.0.0.1:%d", stores[1].Port))
	gateway.Paths[1].Cut(false)
	seen := func() bool { return stores[1].hasHost("nqn.2014-08.org.example:" + gateway.Name) }
	if err := WaitFor(20*time.Second, "the gateway has tried the other store", seen); err != nil {
		return w, err
	}
	return w, w.useAndCheck(gateway)
}

// hasHost returns true if the host has or had a controller.
func (s *Store) hasHost(hostnqn string) bool {
	result, err := s.Target.Call("nvmf_subsystem_get_controllers", target.Params{"nqn": s.Subsystem})
	return err == nil && bytes.Contains(result, []byte(hostnqn))
}

// useAndCheck writes and reads over the gateway with any result, and then reads both disks.
func (w *World) useAndCheck(gateway *Gateway) error {
	host, link, disk := w.Hosts[0], w.Hosts[0].Link(gateway.Name), w.Disk("one")
	for lba := uint64(0); lba < scriptBlocks/2; lba++ {
		host.Write(link, disk, lba, int(lba), lba%2 == 0)
		host.Read(link, disk, lba, int(lba))
	}
	for _, name := range []string{"one", "two"} {
		for _, server := range w.Hosts[0].Links {
			for lba := uint64(0); server.direct && server.has(name) && lba < scriptBlocks; lba++ {
				if err := w.readOnce(server, w.Disk(name), lba); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// swapAtStore exports disk two in place of disk one under NSID 1, while the host's own link to the store is
// disconnected, so that the store does not wait for it.
func (w *World) swapAtStore() error {
	store := w.Stores[0]
	remove := target.RemoveNamespace(store.Subsystem, 1)
	if _, err := store.Target.Call(remove.Method, remove.Params); err != nil {
		return err
	}
	add := target.AddNamespace(store.Subsystem, 1, "two")
	return WaitFor(30*time.Second, "the number is free", func() bool {
		_, err := store.Target.Call(add.Method, add.Params)
		return err == nil
	})
}

// exportOne exports disk one as NSID 2 and waits until the host has both.
func (w *World) exportOne() error {
	store := w.Stores[0]
	if err := store.Target.Calls(target.AddNamespace(store.Subsystem, 2, "one")); err != nil {
		return err
	}
	direct := w.Hosts[0].Link(store.Name)
	return WaitFor(20*time.Second, "the host has both disks", func() bool {
		return direct.has("one") && direct.has("two")
	})
}

// wrongDiskPathDown: one path of a gateway is down while NSID 1 of the store becomes another disk; then the host writes
// over the gateway.
func wrongDiskPathDown(options Options) (*World, error) {
	w, err := scriptWorld(options, 1, false)
	if err != nil {
		return w, err
	}
	gateway := w.Gateways[0]
	gateway.Paths[0].Cut(true)
	if err := gateway.waitForPaths(1); err != nil {
		return w, err
	}
	if err := w.swapAtStore(); err != nil {
		return w, err
	}
	if err := w.exportOne(); err != nil {
		return w, err
	}
	return w, w.useAndCheck(gateway)
}

// wrongDiskWaiting: a write waits at a gateway whose paths are down while NSID 1 of the store becomes another disk;
// then the paths reconnect.
func wrongDiskWaiting(options Options) (*World, error) {
	w, err := scriptWorld(options, 1, false)
	if err != nil {
		return w, err
	}
	gateway, link := w.Gateways[0], w.Hosts[0].Link("gateway1")
	for _, path := range gateway.Paths {
		path.Cut(true)
	}
	if err := gateway.waitForPaths(0); err != nil {
		return w, err
	}
	wait := inBackground(func() Result { return w.Hosts[0].Write(link, w.Disk("one"), 0, 0, true) })
	if err := underWay(link); err != nil {
		return w, err
	}
	if err := w.swapAtStore(); err != nil {
		return w, err
	}
	for _, path := range gateway.Paths {
		path.Heal()
	}
	w.log("the write that waited: %+v", wait())
	if err := w.exportOne(); err != nil {
		return w, err
	}
	return w, w.useAndCheck(gateway)
}

// namespaceNumber: a write's data are outstanding when its namespace is removed and its NSID is reused for another
// disk.
func namespaceNumber(options Options) (*World, error) {
	w, err := scriptWorld(options, 0, false)
	if err != nil {
		return w, err
	}
	host, store, disk := w.Hosts[0], w.Stores[0], w.Disk("one")
	link := host.Link(store.Name)
	queue := link.Current().Queue(0)
	release := queue.HoldData()
	wait := inBackground(func() Result { return host.Write(link, disk, 0, 0, false) })
	if err := WaitFor(10*time.Second, "the store asks for data", queue.Holding); err != nil {
		return w, err
	}
	removed := make(chan error, 1)
	go func() {
		step := target.RemoveNamespace(store.Subsystem, 1)
		_, err := store.Target.Call(step.Method, step.Params)
		removed <- err
	}()
	added := make(chan error, 1)
	go func() {
		add := target.AddNamespace(store.Subsystem, 1, "two")
		added <- WaitFor(20*time.Second, "the number is free", func() bool {
			_, err := store.Target.Call(add.Method, add.Params)
			return err == nil
		})
	}()
	// The NSID is reused either while the write is outstanding, or only after it has ended.
	early := WaitFor(CommandTimeout/2, "the number is given away", func() bool { return len(added) > 0 }) == nil
	w.log("number given away while the write was under way: %v", early)
	release()
	w.log("the write: %+v", wait())
	if err := <-removed; err != nil {
		return w, err
	}
	if err := <-added; err != nil {
		return w, err
	}
	if err := w.exportOne(); err != nil {
		return w, err
	}
	for _, name := range []string{"one", "two"} {
		if err := w.readAllOf(w.Disk(name), 1); err != nil {
			return w, err
		}
	}
	return w, nil
}
