// SPDX-License-Identifier: Apache-2.0

// Package history records the hosts' operations on blocks, and checks the guarantees of docs/consistency.md. The
// checker itself is the module github.com/anishathalye/porcupine.
package history

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Never is the fence of a write that may take effect at any time after its invocation.
const Never = math.MaxInt64

// Kind of an operation.
type Kind string

const (
	Read  Kind = "read"
	Write Kind = "write"
)

// Outcome of an operation, as known by its host.
type Outcome string

const (
	// OK: answered with success.
	OK Outcome = "ok"
	// Unknown: a write without success, which may have been executed or may still be executed until its fence.
	Unknown Outcome = "unknown"
)

// Block is one register of the model.
type Block struct {
	Disk string
	LBA  uint64
}

// Op is one operation on one block.
type Op struct {
	ID    int64 // starts at 1; also the value that a write writes. 0 is the initial value of a block.
	Kind  Kind
	Block Block
	Value int64 // what was written or read
	Host  string
	Path  string // the path that was used
	// Nanoseconds since the creation of the recorder. Return is 0 until the operation ends.
	Call, Return int64
	Outcome      Outcome
	Note         string // the status, or the reason for a missing answer
	// The end of the time in which an unknown write may take effect.
	Fence int64
	// The maximum number of additional executions of a write by an intermediate host, which sends it again after the
	// loss of a path.
	Repeats int
}

func (o *Op) String() string {
	end := fmt.Sprintf("%.6f", seconds(o.Return))
	if o.Outcome == Unknown {
		end += ", may take effect "
		if o.Fence == Never {
			end += "at any time"
		} else {
			end += fmt.Sprintf("until %.6f", seconds(o.Fence))
		}
	}
	text := fmt.Sprintf("#%d %s %s by %s via %s: [%.6f, %s]", o.ID, o.Kind, value(o.Value), o.Host, o.Path,
		seconds(o.Call), end)
	if o.Note != "" {
		text += " " + o.Note
	}
	return text
}

func value(id int64) string {
	if id == 0 {
		return "the initial value"
	}
	return fmt.Sprintf("value %d", id)
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// Recorder keeps the history of a run. Thread-safe.
type Recorder struct {
	mutex   sync.Mutex
	start   time.Time
	ops     []*Op
	lastID  int64
	strange []string
}

// NewRecorder starts an empty history.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// At converts a time to the recorder's clock.
func (r *Recorder) At(moment time.Time) int64 { return int64(moment.Sub(r.start)) }

// Now is the current time of the recorder's clock.
func (r *Recorder) Now() int64 { return int64(time.Since(r.start)) }

// Begin records an invocation.
func (r *Recorder) Begin(kind Kind, block Block, host, path string, repeats int) *Op {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.lastID++
	op := &Op{ID: r.lastID, Kind: kind, Block: block, Host: host, Path: path, Repeats: repeats, Fence: Never}
	op.Call = r.Now()
	if kind == Write {
		op.Value = op.ID
		// Until the result is known.
		op.Outcome = Unknown
	}
	r.ops = append(r.ops, op)
	return op
}

// Succeed records a success. `value` is used for reads.
func (r *Recorder) Succeed(op *Op, value int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	op.Return, op.Outcome = r.Now(), OK
	op.Fence = op.Return
	if op.Kind == Read {
		op.Value = value
	}
}

// Fail records a failure; `final`: a write has no effect after this.
func (r *Recorder) Fail(op *Op, note string, final bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	op.Return, op.Note = r.Now(), note
	if final {
		op.Fence = op.Return
	}
}

// FenceAt ends the time in which unknown writes may take effect.
func (r *Recorder) FenceAt(moment int64, ops []*Op) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, op := range ops {
		if op.Outcome == Unknown && moment < op.Fence {
			op.Fence = moment
		}
	}
}

// Strange records an impossible result: a torn block, or the contents of another block.
func (r *Recorder) Strange(format string, arguments ...interface{}) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.strange = append(r.strange, fmt.Sprintf("%.6f: ", seconds(r.Now()))+fmt.Sprintf(format, arguments...))
}

// Snapshot returns the history so far: all writes, and the successful reads.
func (r *Recorder) Snapshot() (ops []Op, strange []string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, op := range r.ops {
		if op.Kind == Write || op.Outcome == OK {
			ops = append(ops, *op)
		}
	}
	return ops, append([]string(nil), r.strange...)
}
