// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"sort"
	"time"

	"linearizability/history"
	"linearizability/target"
)

// Script is a deterministic run for one way in which data can become wrong. Returns an error if the run failed; the
// judge decides if data are wrong.
type Script func(options Options) (*World, error)

// Scripts maps names to scripts.
var Scripts = map[string]Script{
	"late-waiting":           lateWaiting,
	"late-frozen":            lateFrozen,
	"late-frozen-cut":        lateFrozenCut,
	"late-retry":             lateRetry,
	"late-stopped":           lateStopped,
	"late-limit":             lateLimit,
	"planted":                planted,
	"wrong-disk-second-path": wrongDiskSecondPath,
	"wrong-disk-path-down":   wrongDiskPathDown,
	"wrong-disk-waiting":     wrongDiskWaiting,
	"namespace-number":       namespaceNumber,
}

// ScriptNames returns the names of all scripts.
func ScriptNames() (names []string) {
	for name := range Scripts {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

const scriptBlocks = 64

// scriptWorld creates a store with the disks `one` and `two` as namespaces 1 and 2, one host, and gateways to disk one;
// without keepTwo disk two is no longer exported.
func scriptWorld(options Options, gateways int, keepTwo bool) (*World, error) {
	options.Repeats = 2
	w, err := New(options)
	if err != nil {
		return nil, err
	}
	var steps []target.Step
	for number, name := range []string{"one", "two"} {
		step, err := w.FileBdev("aio", name, number+1)
		if err != nil {
			return w, err
		}
		steps = append(steps, step)
	}
	store, err := w.AddStore("store", "store", true, steps, "one", "two")
	if err != nil {
		return w, err
	}
	for len(w.Gateways) < gateways {
		if _, err := w.AddGateway([]*Store{store}, nil, "storen1"); err != nil {
			return w, err
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := w.addDisk(store.Target, name, name); err != nil {
			return w, err
		}
	}
	if err := w.startScript(); err != nil || keepTwo {
		return w, err
	}
	step := target.RemoveNamespace(store.Subsystem, 2)
	if _, err := store.Target.Call(step.Method, step.Params); err != nil {
		return w, err
	}
	return w, WaitFor(20*time.Second, "nobody has disk two", w.nobodyHasTwo)
}

func (w *World) nobodyHasTwo() bool {
	for _, gateway := range w.Gateways {
		if _, err := gateway.Target.Bdev("storen2"); err == nil {
			return false
		}
	}
	direct := w.Hosts[0].Link("store")
	return direct.ready() && !direct.has("two")
}

// startScript creates and connects a host, and fills the exported disks.
func (w *World) startScript() error {
	w.Direct = true
	if _, err := w.AddHost(); err != nil {
		return err
	}
	if err := w.ConnectHosts(); err != nil {
		return err
	}
	w.KeepLinksUp()
	return w.Fill(scriptBlocks)
}

// must returns an error unless the I/O succeeded.
func must(result Result) error {
	if result.Outcome != history.OK {
		return fmt.Errorf("an I/O that has to succeed did not: %+v", result)
	}
	return nil
}

// writeTwice writes two values to a block; both writes must succeed.
func (w *World) writeTwice(link *Link, disk *Disk, lba uint64) error {
	for count := 0; count < 2; count++ {
		if err := must(w.Hosts[0].Write(link, disk, lba, count, true)); err != nil {
			return err
		}
	}
	return nil
}

// readAllOf reads the disk's first blocks `times` times over each link that has it.
func (w *World) readAllOf(disk *Disk, times int) error {
	for ; times > 0; times-- {
		for _, link := range w.Hosts[0].Links {
			for lba := uint64(0); lba < scriptBlocks && link.has(disk.Name); lba++ {
				if err := w.readOnce(link, disk, lba); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// inBackground runs an I/O concurrently; wait returns its result.
func inBackground(run func() Result) (wait func() Result) {
	done := make(chan Result, 1)
	go func() { done <- run() }()
	return func() Result { return <-done }
}

// underWay waits until the link has outstanding I/O.
func underWay(link *Link) error {
	return WaitFor(10*time.Second, "an I/O is under way", func() bool {
		controller := link.Current()
		return controller != nil && controller.InFlight() > 0
	})
}
