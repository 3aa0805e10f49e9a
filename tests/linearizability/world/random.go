// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"time"

	"linearizability/proxy"
	"linearizability/target"
)

// NewRandomWorld creates disks of all kinds: in files with two engines, encrypted by the store, encrypted by the
// gateways, in memory; two gateways to all of them, and hosts with links to all targets.
func NewRandomWorld(options Options) (*World, error) {
	w, err := New(options)
	if err != nil {
		return nil, err
	}
	var steps []target.Step
	for index, engine := range []string{"aio", "uring", "aio", "uring"} {
		step, err := w.FileBdev(engine, []string{"file", "ring", "under-crypto", "under-layer"}[index], index+1)
		if err != nil {
			return w, err
		}
		steps = append(steps, step)
	}
	steps = append(steps, CryptoBdev("crypto", "under-crypto")...)
	files, err := w.AddStore("files", "files", true, steps, "file", "ring", "crypto", "under-layer")
	if err != nil {
		return w, err
	}
	memory, err := w.AddStore("memory", "memory", false, []target.Step{MallocBdev("memory", 5)}, "memory")
	if err != nil {
		return w, err
	}
	// The destination of redirected paths: other disks with the same NSIDs and the same NQN.
	var others []string
	steps = nil
	for number := 6; number <= 9; number++ {
		others = append(others, fmt.Sprintf("other%d", number))
		steps = append(steps, MallocBdev(fmt.Sprintf("other%d", number), number))
	}
	_, err = w.AddStore("other", "files", false, steps, others...)
	if err != nil {
		return w, err
	}
	for len(w.Gateways) < options.Gateways {
		_, err := w.AddGateway([]*Store{files, memory}, CryptoBdev("layer", "filesn4"),
			"filesn1", "filesn2", "filesn3", "layer", "memoryn1")
		if err != nil {
			return w, err
		}
	}
	for index, names := range [][]string{{"file", "ring", "crypto"}, {"memory"}, others[:2]} {
		store := w.Stores[index]
		for _, name := range names {
			if err := w.addDisk(store.Target, name, name); err != nil {
				return w, err
			}
		}
		store.Disks = names
	}
	if err := w.addDisk(w.Gateways[0].Target, "layer", "layer"); err != nil {
		return w, err
	}
	for _, gateway := range w.Gateways {
		gateway.Disks = []string{"file", "ring", "crypto", "layer", "memory"}
	}
	for len(w.Hosts) < options.Hosts {
		if _, err := w.AddHost(); err != nil {
			return w, err
		}
	}
	return w, w.ConnectHosts()
}

// Plant makes proxies repeat up to `most` writes late on each host's link to each target, from its next association on,
// which it starts. The result returns their number.
func (w *World) Plant(most int) func() int {
	var all []*proxy.Replayer
	for _, host := range w.Hosts {
		for _, link := range host.Links {
			if most > 0 {
				one := &proxy.Replayer{Most: most}
				link.Proxy.Tap(one.Tap)
				link.Lose(link.Current())
				all = append(all, one)
			}
		}
	}
	return func() (count int) {
		for _, one := range all {
			count += one.Planted()
		}
		return count
	}
}

// RunRandom runs the hosts' load while the nemesis injects faults, and then reads everything.
func (w *World) RunRandom(seed int64, duration time.Duration, nemesis *Nemesis) error {
	blocks := blocksFor(duration)
	if blocks > diskBytes/BlockBytes {
		return fmt.Errorf("the disks are too small for %v", duration)
	}
	if err := w.Settle(); err != nil {
		return err
	}
	if err := w.Fill(blocks); err != nil {
		return err
	}
	w.begun = w.Recorder.Now()
	done := make(chan struct{})
	w.KeepLinksUp()
	w.StartLoad(seed, done)
	timer := time.AfterFunc(duration, func() { close(done) })
	defer timer.Stop()
	if err := nemesis.Run(done); err != nil {
		return err
	}
	<-done
	last := w.round() + blocksPerRound
	w.log("all faults have ended")
	if err := w.Settle(); err != nil {
		return err
	}
	return w.ReadAll(last)
}
