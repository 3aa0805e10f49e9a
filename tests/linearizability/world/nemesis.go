// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"time"

	"linearizability/proxy"
	"linearizability/target"
)

// Nemesis injects faults, one at a time, and ends each after a while.
type Nemesis struct {
	world  *World
	random *rand.Rand
	faults []string
	Done   map[string]int
}

// fault is one kind of fault.
type fault func(n *Nemesis) error

var faults = map[string]fault{
	"cut-path":         (*Nemesis).cutPath,
	"cut-paths":        (*Nemesis).cutPaths,
	"freeze-path":      (*Nemesis).freezePath,
	"freeze-paths":     (*Nemesis).freezePaths,
	"cut-host":         (*Nemesis).cutHost,
	"freeze-host":      (*Nemesis).freezeHost,
	"reconnect":        (*Nemesis).reconnect,
	"stop":             (*Nemesis).stopTarget,
	"kill-gateway":     (*Nemesis).killGateway,
	"kill-store":       (*Nemesis).killStore,
	"namespaces":       (*Nemesis).swapNamespaces,
	"store-namespaces": (*Nemesis).swapAtStore,
	"limit":            (*Nemesis).limit,
	"astray":           (*Nemesis).leadAstray,
}

// FaultNames returns the names of all kinds.
func FaultNames() (names []string) {
	for name := range faults {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// NewNemesis injects the kinds in `list`, separated by commas; empty: all.
func NewNemesis(w *World, seed int64, list string) (*Nemesis, error) {
	n := &Nemesis{world: w, random: rand.New(rand.NewSource(seed)), faults: FaultNames(), Done: map[string]int{}}
	if list == "" {
		return n, nil
	}
	n.faults = strings.Split(list, ",")
	for _, name := range n.faults {
		if faults[name] == nil && name != "none" {
			return nil, fmt.Errorf("no fault is called %q; there are %v", name, FaultNames())
		}
	}
	return n, nil
}

// Run injects faults until `until` is closed.
func (n *Nemesis) Run(until <-chan struct{}) error {
	for {
		select {
		case <-until:
			return nil
		case <-time.After(n.between(50, 350)):
		}
		name := n.faults[n.random.Intn(len(n.faults))]
		if name == "none" {
			continue
		}
		if err := faults[name](n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n.Done[name]++
		for _, server := range n.world.Servers() {
			if err := server.Target.Running(); err != nil {
				return err
			}
		}
	}
}

// between returns a random time in milliseconds.
func (n *Nemesis) between(least, most int) time.Duration {
	return time.Duration(least+n.random.Intn(most-least)) * time.Millisecond
}

func (n *Nemesis) say(format string, arguments ...interface{}) {
	n.world.log("nemesis: "+format, arguments...)
}

func (n *Nemesis) gateway() *Gateway {
	return n.world.Gateways[n.random.Intn(len(n.world.Gateways))]
}

func (n *Nemesis) path() *proxy.Proxy {
	gateway := n.gateway()
	return gateway.Paths[n.random.Intn(len(gateway.Paths))]
}

func (n *Nemesis) link() *Link {
	host := n.world.Hosts[n.random.Intn(len(n.world.Hosts))]
	return host.Links[n.random.Intn(len(host.Links))]
}

func (n *Nemesis) hold(what string, least, most int) {
	// Mostly short, for a large number of faults, and sometimes longer than all timeouts.
	if n.random.Intn(3) > 0 {
		most = least + (most-least)/5
	}
	duration := n.between(least, most)
	n.say("%s for %v", what, duration)
	n.world.pause(duration)
}

func (n *Nemesis) cutPath() error {
	path := n.path()
	path.Cut(n.random.Intn(2) == 0)
	n.hold("cut "+path.Name, 1, 600)
	path.Heal()
	return nil
}

func (n *Nemesis) cutPaths() error {
	gateway := n.gateway()
	for _, path := range gateway.Paths {
		path.Cut(true)
	}
	n.hold("cut all paths of "+gateway.Name, 100, 2000)
	n.heal(gateway)
	return nil
}

func (n *Nemesis) heal(gateway *Gateway) {
	for _, path := range gateway.Paths {
		path.Heal()
	}
	n.say("healed")
}

// directions returns mostly both; freezing only the answers lets the requests be executed.
func (n *Nemesis) directions() []proxy.Direction {
	if n.random.Intn(3) == 0 {
		return []proxy.Direction{proxy.Answers}
	}
	return []proxy.Direction{proxy.Requests, proxy.Answers}
}

func (n *Nemesis) freezePath() error {
	path, directions := n.path(), n.directions()
	path.Freeze(directions...)
	n.hold(fmt.Sprintf("froze %s %v", path.Name, directions), 200, 4000)
	path.Heal()
	return nil
}

func (n *Nemesis) freezePaths() error {
	gateway, directions := n.gateway(), n.directions()
	for _, path := range gateway.Paths {
		path.Freeze(directions...)
	}
	n.hold(fmt.Sprintf("froze all paths of %s %v", gateway.Name, directions), 200, 4000)
	n.heal(gateway)
	return nil
}

func (n *Nemesis) cutHost() error {
	link := n.link()
	link.Proxy.Cut(n.random.Intn(2) == 0)
	n.hold("cut "+link.Proxy.Name, 1, 500)
	link.Proxy.Heal()
	return nil
}

func (n *Nemesis) freezeHost() error {
	link := n.link()
	link.Proxy.Freeze(n.directions()...)
	n.hold("froze "+link.Proxy.Name, 200, 2500)
	link.Proxy.Heal()
	return nil
}

// reconnect makes a host drop its association while I/O is outstanding.
func (n *Nemesis) reconnect() error {
	link := n.link()
	n.say("%s reconnects", link.Proxy.Name)
	link.Lose(link.Current())
	return nil
}

func (n *Nemesis) stopTarget() error {
	servers := n.world.Servers()
	server := servers[n.random.Intn(len(servers))]
	server.Target.Pause()
	n.hold("stopped "+server.Name, 100, 2500)
	server.Target.Continue()
	return nil
}

func (n *Nemesis) killGateway() error {
	gateway := n.gateway()
	n.say("kill %s", gateway.Name)
	err := gateway.Kill()
	n.say("%s is back", gateway.Name)
	return err
}

func (n *Nemesis) killStore() error {
	for _, store := range n.world.Stores {
		if store.Durable {
			n.say("kill %s", store.Name)
			err := store.Kill()
			n.say("%s is back", store.Name)
			return err
		}
	}
	return nil
}

// swapNamespaces exchanges two namespaces of a gateway.
func (n *Nemesis) swapNamespaces() error {
	gateway := n.gateway()
	return n.swap(&gateway.Server, gateway.Exports)
}

// swapAtStore temporarily exchanges namespaces of a store that gateways use.
func (n *Nemesis) swapAtStore() error {
	store := n.world.Stores[0]
	before := append([]string(nil), store.exports...)
	if err := n.swap(&store.Server, store.exports); err != nil {
		return err
	}
	n.hold("they stay there", 100, 1500)
	var moved []int
	for index := range before {
		if store.exports[index] != before[index] {
			moved = append(moved, index)
		}
	}
	copy(store.exports, before)
	if err := n.replace(&store.Server, store.exports, moved); err != nil {
		return err
	}
	for _, gateway := range n.world.Gateways {
		if err := gateway.Restore(); err != nil {
			return err
		}
	}
	return nil
}

// swap exports two of a target's namespaces under each other's number.
func (n *Nemesis) swap(server *Server, exports []string) error {
	one := n.random.Intn(len(exports))
	other := (one + 1 + n.random.Intn(len(exports)-1)) % len(exports)
	n.say("%s: namespaces %d and %d change places", server.Name, one+1, other+1)
	exports[one], exports[other] = exports[other], exports[one]
	return n.replace(server, exports, []int{one, other})
}

// replace removes these namespaces and exports others in their place.
func (n *Nemesis) replace(server *Server, exports []string, indexes []int) error {
	for _, index := range indexes {
		if err := server.Target.Calls(target.RemoveNamespace(server.Subsystem, index+1)); err != nil {
			return err
		}
	}
	for _, index := range indexes {
		// The NSID is in use until all hosts have been notified of the removal of its namespace.
		step := target.AddNamespace(server.Subsystem, index+1, exports[index])
		var last error
		if err := WaitFor(20*time.Second, "the number is free", func() bool {
			last = server.Target.Calls(step)
			return last == nil
		}); err != nil {
			return fmt.Errorf("%w: %v", err, last)
		}
	}
	return nil
}

// limit temporarily limits a disk of a store or a gateway to few I/Os per second.
func (n *Nemesis) limit() error {
	gateway, store := n.gateway(), n.world.Stores[0]
	server, bdevs := &gateway.Server, gateway.Exports
	if n.random.Intn(2) == 0 {
		server, bdevs = &store.Server, store.exports
	}
	bdev := bdevs[n.random.Intn(len(bdevs))]
	set := func(rate int) error {
		_, err := server.Target.Call("bdev_set_qos_limit", target.Params{"name": bdev, "rw_ios_per_sec": rate})
		return err
	}
	if err := set(1000 * (1 + n.random.Intn(3))); err != nil {
		return err
	}
	n.hold("limited "+bdev+" of "+server.Name, 300, 1500)
	return set(0)
}

// leadAstray temporarily redirects paths of the file disks to another store with other disks under the same NSIDs.
func (n *Nemesis) leadAstray() error {
	gateway := n.gateway()
	paths := gateway.Paths[:2]
	if both := n.random.Intn(3) == 0; !both {
		one := n.random.Intn(2)
		paths = paths[one : one+1]
	}
	files, other := n.world.Stores[0], n.world.Stores[2]
	lead := func(to *Store) {
		for _, path := range paths {
			path.Redirect(to.address())
			path.Cut(false)
		}
	}
	lead(other)
	n.hold(fmt.Sprintf("%d paths of %s lead to other disks", len(paths), gateway.Name), 300, 2000)
	lead(files)
	if err := WaitFor(30*time.Second, gateway.Name+" has all its paths", gateway.PathsUp); err != nil {
		return err
	}
	return gateway.Restore()
}
