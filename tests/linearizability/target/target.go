// SPDX-License-Identifier: Apache-2.0

// Package target starts sma-target and calls its JSON-RPC methods.
package target

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Params are the parameters of a call.
type Params map[string]interface{}

// Target is one sma-target. After a kill it restarts with the same socket and without objects.
type Target struct {
	Name    string
	program string
	folder  string
	process *exec.Cmd
	ended   chan error
}

const (
	startTimeout = 20 * time.Second
	callTimeout  = 20 * time.Second
)

// Start starts `program` with two I/O threads. Its log is NAME.log in `folder`.
func Start(program, folder, name string) (*Target, error) {
	t := &Target{Name: name, program: program, folder: folder}
	return t, t.Restart()
}

func (t *Target) socket() string { return filepath.Join(t.folder, t.Name+".sock") }

// Restart starts the target after Kill.
func (t *Target) Restart() error {
	log, err := os.OpenFile(filepath.Join(t.folder, t.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	t.process = exec.Command(t.program, "-r", t.socket(), "--cores", "2", "-S", t.folder)
	t.process.Stdout, t.process.Stderr, t.process.Dir = log, log, t.folder
	// The target is killed when this program ends for any reason.
	t.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.process.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	t.ended = ended
	go func(process *exec.Cmd) { ended <- process.Wait() }(t.process)
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		_, err := t.Call("spdk_get_version", nil)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w", t.Name, err)
		}
	}
}

// Kill ends the target with SIGKILL and waits for its end.
func (t *Target) Kill() {
	t.process.Process.Signal(syscall.SIGKILL)
	t.ended <- <-t.ended
}

// Stop ends the target with SIGTERM. Returns an error if it fails or has failed.
func (t *Target) Stop() error {
	t.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-t.ended:
		t.ended <- err
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		return nil
	case <-time.After(startTimeout):
		t.Kill()
		return fmt.Errorf("%s did not end in %v after SIGTERM", t.Name, startTimeout)
	}
}

// Running returns nil while the target runs, otherwise an error with its exit status.
func (t *Target) Running() error {
	select {
	case err := <-t.ended:
		t.ended <- err
		return fmt.Errorf("%s ended: %v", t.Name, err)
	default:
		return nil
	}
}

// Pause stops the target with SIGSTOP, and returns when none of its threads runs any more.
func (t *Target) Pause() {
	t.process.Process.Signal(syscall.SIGSTOP)
	for !t.isStopped() {
		runtime.Gosched()
	}
}

// isStopped returns true if every thread is stopped, or the process has ended.
func (t *Target) isStopped() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", t.process.Process.Pid))
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		// The state follows the name, which is in parentheses.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if err == nil && len(fields) > 0 && !strings.Contains("TZX", fields[0]) {
			return false
		}
	}
	return true
}

// Continue lets a paused target run again.
func (t *Target) Continue() { t.process.Process.Signal(syscall.SIGCONT) }

// RpcError is an error answer.
type RpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *RpcError) Error() string { return fmt.Sprintf("%s (%d)", e.Message, e.Code) }

// Call makes one call.
func (t *Target) Call(method string, params Params) (json.RawMessage, error) {
	conn, err := net.DialTimeout("unix", t.socket(), callTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(callTimeout))
	request := Params{"jsonrpc": "2.0", "id": 1, "method": method}
	if params != nil {
		request["params"] = params
	}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return nil, err
	}
	var answer struct {
		Result json.RawMessage
		Error  *RpcError
	}
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", t.Name, method, err)
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("%s: %s: %w", t.Name, method, answer.Error)
	}
	return answer.Result, nil
}

// Step is one call of many.
type Step struct {
	Method string
	Params Params
}

// Calls makes all calls in order, until one fails.
func (t *Target) Calls(steps ...Step) error {
	for _, step := range steps {
		if _, err := t.Call(step.Method, step.Params); err != nil {
			return err
		}
	}
	return nil
}

// Address returns the parameters of an NVMe/TCP address.
func Address(port int) Params {
	return Params{"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": fmt.Sprint(port)}
}

// Export returns the calls that export bdevs as namespaces 1, 2, ... on these ports, to all hosts.
func Export(subsystem string, ports []int, bdevs ...string) []Step {
	steps := []Step{{"nvmf_create_subsystem", Params{"nqn": subsystem, "allow_any_host": true}}}
	for index, bdev := range bdevs {
		steps = append(steps, AddNamespace(subsystem, index+1, bdev))
	}
	for _, port := range ports {
		steps = append(steps, Step{"nvmf_subsystem_add_listener",
			Params{"nqn": subsystem, "listen_address": Address(port)}})
	}
	return steps
}

// AddNamespace exports a bdev under an NSID.
func AddNamespace(subsystem string, nsid int, bdev string) Step {
	return Step{"nvmf_subsystem_add_ns", Params{"nqn": subsystem,
		"namespace": Params{"nsid": nsid, "bdev_name": bdev}}}
}

// RemoveNamespace removes a namespace.
func RemoveNamespace(subsystem string, nsid int) Step {
	return Step{"nvmf_subsystem_remove_ns", Params{"nqn": subsystem, "nsid": nsid}}
}

// Bdev returns the UUID of a bdev, without dashes.
func (t *Target) Bdev(name string) (uuid string, err error) {
	result, err := t.Call("bdev_get_bdevs", Params{"name": name})
	if err != nil {
		return "", err
	}
	var bdevs []struct{ UUID string }
	if err := json.Unmarshal(result, &bdevs); err != nil || len(bdevs) != 1 {
		return "", fmt.Errorf("%s: bdev_get_bdevs %s: %s", t.Name, name, result)
	}
	return strings.ReplaceAll(bdevs[0].UUID, "-", ""), nil
}

// FreePort returns an unused port.
func FreePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
