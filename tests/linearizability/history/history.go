// Package history records what hosts did to blocks, and judges whether that is what docs/consistency.md
// promises. The judge proper is the module github.com/anishathalye/porcupine.
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

// Outcome of an operation, as far as its host knows.
type Outcome string

const (
	// OK: answered with success.
	OK Outcome = "ok"
	// Unknown: a write that was not; it may have been carried out, or may yet be, up to its fence.
	Unknown Outcome = "unknown"
)

// Block is one register.
type Block struct {
	Disk string
	LBA  uint64
}

// Op is one operation on one block.
type Op struct {
	ID    int64 // from 1; also the value that a write writes. 0 is what a block holds at the beginning.
	Kind  Kind
	Block Block
	Value int64 // what was written or read
	Host  string
	Path  string // the way that it went
	// Nanoseconds since the recorder was made. Return is 0 while it is under way.
	Call, Return int64
	Outcome      Outcome
	Note         string // the status, or why there is no answer
	// The end of the time in which an unknown write may take effect.
	Fence int64
	// How many times more an intermediate host may carry a write out while it is under way, because it
	// sends it again after the loss of a path.
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

// Recorder keeps the history of a run. Safe for several goroutines.
type Recorder struct {
	mutex   sync.Mutex
	start   time.Time
	ops     []*Op
	lastID  int64
	strange []string
}

// NewRecorder starts an empty history.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// At is a moment on the recorder's clock.
func (r *Recorder) At(moment time.Time) int64 { return int64(moment.Sub(r.start)) }

// Now is the present moment.
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
		// As long as nothing else is known.
		op.Outcome = Unknown
	}
	r.ops = append(r.ops, op)
	return op
}

// Succeed records a success. `value` counts for reads.
func (r *Recorder) Succeed(op *Op, value int64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	op.Return, op.Outcome = r.Now(), OK
	op.Fence = op.Return
	if op.Kind == Read {
		op.Value = value
	}
}

// Fail records that there was no success; `final`: a write takes no effect after this.
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

// Strange records what no history of these registers can contain: a torn block, another block's content.
func (r *Recorder) Strange(format string, arguments ...interface{}) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.strange = append(r.strange, fmt.Sprintf("%.6f: ", seconds(r.Now()))+fmt.Sprintf(format, arguments...))
}

// Snapshot is everything so far: all writes, and reads that have succeeded.
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
