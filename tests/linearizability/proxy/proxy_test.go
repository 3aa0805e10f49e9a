// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

const patience = 10 * time.Second

// connected returns a proxy with one open connection.
func connected(t *testing.T) (p *Proxy, client, server *net.TCPConn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if p, err = New("proxy", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	client = dial(t, p)
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.SetDeadline(time.Now().Add(patience))
	return p, client, accepted.(*net.TCPConn)
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	dialed, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	dialed.SetDeadline(time.Now().Add(patience))
	return dialed.(*net.TCPConn)
}

func send(t *testing.T, conn net.Conn, text string) {
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v in place of %q", got, err, text)
	}
}

func TestBothDirectionsPass(t *testing.T) {
	_, client, server := connected(t)
	send(t, client, "request")
	expect(t, server, "request")
	send(t, server, "answer")
	expect(t, client, "answer")
}

func TestACutResetsBothEnds(t *testing.T) {
	p, client, server := connected(t)
	p.Cut(true)
	for _, end := range []*net.TCPConn{client, server} {
		if _, err := end.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%v in place of a reset", err)
		}
	}
	if _, err := dial(t, p).Read(make([]byte, 1)); err == nil {
		t.Error("a new connection is not refused")
	}
}

func TestWhatWasFrozenArrivesAfterHealing(t *testing.T) {
	p, client, server := connected(t)
	p.Freeze(Requests)
	send(t, client, "late")
	send(t, server, "answer")
	expect(t, client, "answer")
	client.CloseWrite()
	p.Heal()
	expect(t, server, "late")
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v in place of an orderly end", err)
	}
}

func TestWhatWasFrozenIsLostWithItsConnection(t *testing.T) {
	p, client, server := connected(t)
	p.Freeze(Requests, Answers)
	send(t, client, "late")
	client.SetLinger(0)
	client.Close()
	p.Heal()
	if got, err := io.ReadAll(server); err == nil || len(got) > 0 {
		t.Errorf("%q, %v in place of a reset alone", got, err)
	}
}

func TestGoneMeansClosedTowardsTheTarget(t *testing.T) {
	p, client, _ := connected(t)
	name := []string{client.LocalAddr().String()}
	if p.WaitGone(name, 0) {
		t.Error("gone while it is there")
	}
	p.Freeze(Requests, Answers)
	client.SetLinger(0)
	client.Close()
	if p.WaitGone(name, 0) {
		t.Error("gone although the target cannot have heard of it")
	}
	p.Heal()
	if !p.WaitGone(name, patience) {
		t.Error("not gone")
	}
}
