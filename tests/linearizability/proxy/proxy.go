// SPDX-License-Identifier: Apache-2.0

// Package proxy is a network between two programs that can be cut, frozen and healed, connection by
// connection as TCP would see it:
//
//   - A cut resets the connections; what is under way is lost.
//   - Frozen, nothing passes in the frozen directions, and nobody hears of it. After healing, what a sender
//     has still in its send buffer arrives, as by retransmission: also after an orderly close, but not
//     after a reset.
package proxy

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Direction of the data.
type Direction int

const (
	Requests Direction = iota // from the client
	Answers
)

// Tap processes the data instead of plain copying: it forwards by calling write.
type Tap interface {
	// Requests returns the bytes to forward instead of `data`.
	Requests(data []byte) []byte
	Answers(data []byte) []byte
}

// Proxy listens on its own port and forwards to one address.
type Proxy struct {
	Name     string
	listener net.Listener
	mutex    sync.Mutex
	changed  *sync.Cond
	target   string
	refuse   bool
	frozen   [2]bool
	pairs    map[*pair]bool
	newTap   func() Tap // nil: none
}

type pair struct {
	ends   [2]*net.TCPConn // the client; the target, nil until it is connected
	client string
	dead   bool
	tap    Tap
}

// New starts a proxy that forwards to `target`.
func New(name, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Name: name, listener: listener, target: target, pairs: map[*pair]bool{}}
	p.changed = sync.NewCond(&p.mutex)
	go p.accept()
	return p, nil
}

// Port returns the port on which it listens.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Address returns the address on which it listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Tap sets a function that creates a tap for each new connection.
func (p *Proxy) Tap(make func() Tap) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.newTap = make
}

// Redirect forwards new connections to another address.
func (p *Proxy) Redirect(target string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.target = target
}

// Cut resets all connections; with refuse also new ones, until Heal.
func (p *Proxy) Cut(refuse bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.refuse = refuse
	for one := range p.pairs {
		p.drop(one)
	}
}

// Freeze holds the data in these directions, and new connections.
func (p *Proxy) Freeze(directions ...Direction) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, direction := range directions {
		p.frozen[direction] = true
	}
}

// Heal ends Cut and Freeze. Connections that one end has reset in between are first reset at the other end.
func (p *Proxy) Heal() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for one := range p.pairs {
		for _, end := range one.ends {
			if end != nil && wasReset(end) {
				p.drop(one)
				break
			}
		}
	}
	p.refuse = false
	p.frozen = [2]bool{}
	p.changed.Broadcast()
}

// Close ends it.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Cut(true)
}

// WaitGone waits until the connections from these addresses have been closed towards the target, too.
func (p *Proxy) WaitGone(clients []string, timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); ; time.Sleep(time.Millisecond) {
		if p.gone(clients) {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func (p *Proxy) gone(clients []string) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for one := range p.pairs {
		for _, client := range clients {
			if one.client == client {
				return false
			}
		}
	}
	return true
}

func wasReset(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	reset := false
	err = raw.Control(func(fd uintptr) {
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		reset = err != nil || code != 0
	})
	return reset || err != nil
}

// drop resets both ends. Called with the lock held.
func (p *Proxy) drop(one *pair) {
	if one.dead {
		return
	}
	one.dead = true
	delete(p.pairs, one)
	for _, end := range one.ends {
		if end != nil {
			end.SetLinger(0)
			end.Close()
		}
	}
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		accepted, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(accepted.(*net.TCPConn))
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	one := &pair{client: client.RemoteAddr().String()}
	one.ends[Requests] = client
	p.mutex.Lock()
	if p.refuse {
		client.SetLinger(0)
		client.Close()
		p.mutex.Unlock()
		return
	}
	p.pairs[one] = true
	for (p.frozen[Requests] || p.frozen[Answers]) && !one.dead {
		p.changed.Wait()
	}
	target := p.target
	if p.newTap != nil {
		one.tap = p.newTap()
	}
	p.mutex.Unlock()
	server, err := net.DialTimeout("tcp", target, time.Second)
	p.mutex.Lock()
	if err != nil {
		p.drop(one)
		p.mutex.Unlock()
		return
	}
	one.ends[Answers] = server.(*net.TCPConn)
	if one.dead {
		one.ends[Answers].SetLinger(0)
		server.Close()
		p.mutex.Unlock()
		return
	}
	p.mutex.Unlock()
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); p.copy(one, Requests) }()
	go func() { defer both.Done(); p.copy(one, Answers) }()
	both.Wait()
	p.mutex.Lock()
	p.drop(one)
	p.mutex.Unlock()
}

// copy forwards one direction until its sender closes it orderly, which is forwarded, or either end fails.
func (p *Proxy) copy(one *pair, direction Direction) {
	from, to := one.ends[direction], one.ends[1-direction]
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		p.mutex.Lock()
		for p.frozen[direction] && !one.dead {
			p.changed.Wait()
		}
		if one.dead {
			p.mutex.Unlock()
			return
		}
		data := buffer[:count]
		if one.tap != nil && direction == Requests {
			data = one.tap.Requests(data)
		} else if one.tap != nil {
			data = one.tap.Answers(data)
		}
		// Without the lock a freeze may start in between: these data then count as sent just before it.
		p.mutex.Unlock()
		if len(data) > 0 {
			if _, failed := to.Write(data); failed != nil {
				err = failed
			}
		}
		if err == nil {
			continue
		}
		p.mutex.Lock()
		if err.Error() == "EOF" && !one.dead {
			to.CloseWrite()
		} else {
			p.drop(one)
		}
		p.mutex.Unlock()
		return
	}
}
