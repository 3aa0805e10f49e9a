// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"linearizability/proxy"
	"linearizability/target"
)

const (
	diskBytes = 16 << 20
	nqnPrefix = "nqn.2016-06.io.spdk:"
	// A gateway detects a dead path within this time.
	pathKeepAlive = 1500 * time.Millisecond
	key           = "00112233445566778899aabbccddeeff"
	key2          = "ffeeddccbbaa99887766554433221100"
)

var createTransport = target.Step{Method: "nvmf_create_transport", Params: target.Params{"trtype": "tcp"}}

// A gateway holds a write that it has sent on a lost path until the store must have ended the association, which takes
// twice the keep-alive time that the store grants. The default minimum of 10 s would make each fault take longer.
var createStoreTransport = target.Step{Method: "nvmf_create_transport",
	Params: target.Params{"trtype": "tcp", "kas": 1, "min_kato": pathKeepAlive.Milliseconds()}}

// Store is a target with disks.
type Store struct {
	Server
	Durable bool // its disks survive it
	second  int  // port of its second listener
	steps   []target.Step
	exports []string // bdevs; the NSID is the position, from 1
}

// Ports returns its two ports.
func (s *Store) Ports() []int { return []int{s.Port, s.second} }

// AddStore starts a target whose bdevs are created by `steps` and exported as namespaces 1, 2, ...
func (w *World) AddStore(name, subsystem string, durable bool, steps []target.Step,
	bdevs ...string) (*Store, error) {
	program, err := target.Start(w.Program, w.Folder, name)
	if err != nil {
		return nil, err
	}
	server := Server{Name: name, Target: program, Subsystem: nqnPrefix + subsystem, Port: target.FreePort()}
	store := &Store{Server: server, Durable: durable, second: target.FreePort(), exports: bdevs}
	store.steps = append([]target.Step{createStoreTransport}, steps...)
	store.steps = append(store.steps, target.Export(store.Subsystem, store.Ports(), bdevs...)...)
	w.Stores = append(w.Stores, store)
	return store, program.Calls(store.steps...)
}

// Kill ends the target with SIGKILL and restarts it with the same disks.
func (s *Store) Kill() error {
	atomic.AddInt32(&s.life, 1)
	s.Target.Kill()
	if err := s.Target.Restart(); err != nil {
		return err
	}
	return s.Target.Calls(s.steps...)
}

// FileBdev returns the call for a bdev over a file, with a UUID derived from `number`; `engine` is aio or uring.
func (w *World) FileBdev(engine, name string, number int) (target.Step, error) {
	path := filepath.Join(w.Folder, name+".img")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return target.Step{}, err
	}
	defer file.Close()
	return target.Step{Method: "bdev_" + engine + "_create", Params: target.Params{"name": name, "filename": path,
		"block_size": BlockBytes, "uuid": UUID(number)}}, file.Truncate(diskBytes)
}

// UUID returns the UUID of a disk.
func UUID(number int) string { return fmt.Sprintf("5f3c1a52-8a3d-4d0e-9b58-6f2f4f1c%04x", number) }

// MallocBdev returns the call for a bdev in memory.
func MallocBdev(name string, number int) target.Step {
	return target.Step{Method: "bdev_malloc_create", Params: target.Params{"name": name, "block_size": BlockBytes,
		"num_blocks": diskBytes / BlockBytes, "uuid": UUID(number)}}
}

// CryptoBdev returns the calls that encrypt a bdev.
func CryptoBdev(name, base string) []target.Step {
	return []target.Step{
		{Method: "accel_crypto_key_create", Params: target.Params{"name": name + "-key", "cipher": "AES_XTS",
			"key": key, "key2": key2}},
		{Method: "bdev_crypto_create", Params: target.Params{"name": name, "base_bdev_name": base,
			"key_name": name + "-key"}},
	}
}

// Gateway is a target that exports the disks of stores, each reached over two paths.
type Gateway struct {
	Server
	Paths   []*proxy.Proxy // of all its stores
	Exports []string       // bdevs; the NSID is the position, from 1
	stores  []*Store
	layers  []target.Step     // bdevs over the remote ones
	uuids   map[string]string // of the exports, as first observed
	options Options
}

// AddGateway starts a gateway. `exports` names bdevs: STOREnNSID, and those created by `layers`.
func (w *World) AddGateway(stores []*Store, layers []target.Step, exports ...string) (*Gateway, error) {
	name := fmt.Sprintf("gateway%d", len(w.Gateways)+1)
	program, err := target.Start(w.Program, w.Folder, name)
	if err != nil {
		return nil, err
	}
	gateway := &Gateway{Server: Server{Name: name, Target: program, Subsystem: nqnPrefix + name, Port: target.FreePort()},
		Exports: exports, stores: stores, layers: layers, options: w.Options}
	w.Gateways = append(w.Gateways, gateway)
	for _, store := range stores {
		for index, port := range store.Ports() {
			path, err := proxy.New(fmt.Sprintf("%s-%s-%c", name, store.Name, 'A'+index),
				fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return nil, err
			}
			gateway.Paths = append(gateway.Paths, path)
		}
	}
	return gateway, gateway.setUp()
}

func (g *Gateway) setUp() error {
	options := target.Params{"keep_alive_timeout_ms": pathKeepAlive.Milliseconds(), "bdev_retry_count": -1}
	if g.options.PathTimeout > 0 {
		options["timeout_us"], options["action_on_timeout"] = g.options.PathTimeout.Microseconds(), "reset"
	}
	if g.options.ActiveActive {
		options["multipath_opts"] = target.Params{"policy": "active_active"}
	}
	if err := g.Target.Calls(createTransport, target.Step{Method: "bdev_nvme_set_options", Params: options}); err != nil {
		return err
	}
	for index, path := range g.Paths {
		if err := g.Attach(g.stores[index/2], path); err != nil {
			return err
		}
	}
	if err := g.Target.Calls(g.layers...); err != nil {
		return err
	}
	if err := g.Target.Calls(target.Export(g.Subsystem, []int{g.Port}, g.Exports...)...); err != nil {
		return err
	}
	if g.uuids == nil {
		g.uuids = map[string]string{}
		for _, bdev := range g.Exports {
			id, err := g.Target.Bdev(bdev)
			if err != nil {
				return err
			}
			g.uuids[bdev] = id
		}
	}
	return nil
}

// Restore exports disks again that were removed and have reappeared with their remote disk, as an agent does.
func (g *Gateway) Restore() error {
	var last error
	err := WaitFor(30*time.Second, g.Name+" exports all disks", func() bool {
		last = g.restore()
		return last == nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %v", err, last)
	}
	return err
}

func (g *Gateway) restore() error {
	result, err := g.Target.Call("nvmf_get_subsystems", target.Params{"nqn": g.Subsystem})
	if err != nil {
		return err
	}
	var subsystems []struct {
		Namespaces []struct {
			Nsid int    `json:"nsid"`
			Bdev string `json:"bdev_name"`
		}
	}
	if err := json.Unmarshal(result, &subsystems); err != nil || len(subsystems) != 1 {
		return fmt.Errorf("nvmf_get_subsystems: %s", result)
	}
	exported := map[string]int{}
	for _, one := range subsystems[0].Namespaces {
		exported[one.Bdev] = one.Nsid
	}
	for index, bdev := range g.Exports {
		if id, err := g.Target.Bdev(bdev); err != nil || id != g.uuids[bdev] {
			g.Target.Calls(g.layers...) // existing ones are refused
			return fmt.Errorf("%s is %q in place of %q: %v", bdev, id, g.uuids[bdev], err)
		}
		if exported[bdev] == 0 {
			if err := g.Target.Calls(target.AddNamespace(g.Subsystem, index+1, bdev)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Attach adds a path to a store.
func (g *Gateway) Attach(store *Store, path *proxy.Proxy) error {
	params := target.Address(path.Port())
	params["name"], params["subnqn"], params["multipath"] = store.Name, store.Subsystem, "multipath"
	params["hostnqn"] = "nqn.2014-08.org.example:" + g.Name
	params["ctrlr_loss_timeout_sec"], params["reconnect_delay_sec"] = -1, 1
	_, err := g.Target.Call("bdev_nvme_attach_controller", params)
	return err
}

// Kill ends the target with SIGKILL and restarts it; its paths must work.
func (g *Gateway) Kill() error {
	atomic.AddInt32(&g.life, 1)
	g.Target.Kill()
	if err := g.Target.Restart(); err != nil {
		return err
	}
	return g.setUp()
}

// PathsUp returns true if all its paths are connected.
func (g *Gateway) PathsUp() bool {
	up, all := g.countPaths()
	return all > 0 && up == all
}

// waitForPaths waits until `wanted` paths are connected.
func (g *Gateway) waitForPaths(wanted int) error {
	return WaitFor(20*time.Second, fmt.Sprintf("%s has %d paths", g.Name, wanted), func() bool {
		up, _ := g.countPaths()
		return up == wanted
	})
}

func (g *Gateway) countPaths() (up, all int) {
	result, err := g.Target.Call("bdev_nvme_get_controllers", nil)
	if err != nil {
		return 0, 0
	}
	var attached []struct {
		Ctrlrs []struct{ State string }
	}
	if json.Unmarshal(result, &attached) != nil {
		return 0, 0
	}
	for _, one := range attached {
		for _, path := range one.Ctrlrs {
			all++
			if strings.EqualFold(path.State, "enabled") {
				up++
			}
		}
	}
	return up, all
}
