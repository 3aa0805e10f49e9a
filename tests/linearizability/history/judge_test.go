// SPDX-License-Identifier: Apache-2.0

package history

import (
	"strings"
	"testing"
	"time"
)

// The following histories are of one block; times are in arbitrary units.
func write(value, call, end int64) Op {
	return Op{ID: value, Kind: Write, Value: value, Call: call, Return: end, Fence: end, Outcome: OK, Host: "w"}
}

func unknown(value, call, end, fence int64) Op {
	return Op{ID: value, Kind: Write, Value: value, Call: call, Return: end, Fence: fence, Outcome: Unknown, Host: "u"}
}

func read(value, call, end int64) Op {
	return Op{ID: 1000 + call, Kind: Read, Value: value, Call: call, Return: end, Outcome: OK, Host: "r"}
}

func repeated(op Op, times int) Op {
	op.Repeats = times
	return op
}

func TestJudge(t *testing.T) {
	cases := []struct {
		name string
		ops  []Op
		good bool
	}{
		{"the initial value", []Op{read(0, 1, 2)}, true},
		{"a write is seen", []Op{write(1, 1, 2), read(1, 3, 4)}, true},
		{"a concurrent write may be seen", []Op{write(1, 1, 9), read(1, 2, 3), read(1, 4, 5)}, true},
		{"a concurrent write may not be seen yet", []Op{write(1, 1, 9), read(0, 2, 3), read(1, 4, 5)}, true},
		{"but not be gone again", []Op{write(1, 1, 9), read(1, 2, 3), read(0, 4, 5)}, false},
		{"a lost acknowledged write", []Op{write(1, 1, 2), read(0, 3, 4)}, false},
		{"a stale read", []Op{write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)}, false},
		{"concurrent writes in either order", []Op{write(1, 1, 9), write(2, 1, 9), read(2, 10, 11)}, true},
		{"reads agree on an order", []Op{write(1, 1, 9), write(2, 1, 9), read(1, 10, 11), read(2, 12, 13)}, false},
		{"a value that nobody wrote", []Op{write(1, 1, 2), read(7, 3, 4)}, false},

		{"an unknown write may have been lost", []Op{unknown(1, 1, 2, Never), read(0, 3, 4), read(0, 5, 6)}, true},
		{"or come late", []Op{unknown(1, 1, 2, Never), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)}, true},
		{"but not before its invocation", []Op{unknown(1, 5, 6, Never), read(1, 1, 2)}, false},
		{"and once only", []Op{unknown(1, 1, 2, Never), read(1, 3, 4), write(2, 5, 6), read(2, 7, 8), read(1, 9, 10)}, false},
		{"an acknowledged write comes once", []Op{write(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)}, false},

		{"a fenced write before its fence", []Op{unknown(1, 1, 2, 6), write(2, 3, 4), read(1, 5, 7)}, true},
		{"a fenced write that had no effect", []Op{unknown(1, 1, 2, 6), read(0, 7, 8), read(0, 9, 10)}, true},
		{"a fenced write after its fence", []Op{unknown(1, 1, 2, 4), write(2, 5, 6), read(1, 7, 8)}, false},
		{"a fenced write seen late, without a newer one", []Op{unknown(1, 1, 2, 4), read(1, 7, 8)}, true},
		{"a fenced write that shows up after the fence", []Op{unknown(1, 1, 2, 4), read(0, 5, 6), read(1, 7, 8)}, false},

		{"a repeat while the write is under way",
			[]Op{repeated(write(1, 1, 20), 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7), read(1, 8, 9)}, true},
		{"more repeats than allowed", []Op{repeated(write(1, 1, 20), 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7),
			read(1, 8, 9), write(3, 10, 11), read(3, 12, 13), read(1, 14, 15)}, false},
		{"a repeat after the answer", []Op{repeated(write(1, 1, 2), 1), read(1, 3, 4), write(2, 5, 6), read(1, 7, 8)}, false},
	}
	for _, one := range cases {
		if good := Judge(one.ops, nil, time.Minute, "").OK(); good != one.good {
			t.Errorf("%s: judged %v", one.name, good)
		}
	}
}

func TestBlocksAreJudgedApart(t *testing.T) {
	good, bad := write(1, 1, 2), []Op{write(2, 1, 2), read(0, 3, 4)}
	for index := range bad {
		bad[index].Block = Block{"disk", 7}
	}
	verdict := Judge(append(bad, good), nil, time.Minute, "")
	if verdict.Blocks != 2 || len(verdict.Violations) != 1 ||
		!strings.Contains(verdict.Violations[0], "block 7 of disk") {
		t.Errorf("%+v", verdict)
	}
}

func TestTheExplanationNamesTheLateWrite(t *testing.T) {
	ops := []Op{unknown(1, 1, 2, 4), write(2, 5, 6), read(2, 7, 8), read(1, 9, 10)}
	verdict := Judge(ops, nil, time.Minute, t.TempDir())
	if len(verdict.Violations) != 1 || !strings.Contains(verdict.Violations[0], "late or stale: #1 write") ||
		!strings.Contains(verdict.Violations[0], "although newer: #2 write") ||
		!strings.Contains(verdict.Violations[0], ".html") {
		t.Errorf("%+v", verdict)
	}
}

func TestWhatWasStrangeIsAViolation(t *testing.T) {
	recorder := NewRecorder()
	recorder.Strange("block %d is torn", 3)
	ops, strange := recorder.Snapshot()
	if verdict := Judge(ops, strange, time.Minute, ""); verdict.OK() {
		t.Errorf("%+v", verdict)
	}
}

func TestTheRecorderKeepsOutcomes(t *testing.T) {
	recorder := NewRecorder()
	block := Block{"disk", 1}
	done, lost, aborted := recorder.Begin(Write, block, "h", "p", 0), recorder.Begin(Write, block, "h", "p", 0),
		recorder.Begin(Write, block, "h", "p", 0)
	failed := recorder.Begin(Read, block, "h", "p", 0)
	recorder.Succeed(done, 0)
	recorder.Fail(lost, "lost", false)
	recorder.Fail(aborted, "aborted", true)
	recorder.Fail(failed, "lost", false)
	ops, _ := recorder.Snapshot()
	if len(ops) != 3 || ops[0].Outcome != OK || ops[1].Fence != Never || ops[2].Fence != ops[2].Return {
		t.Fatalf("%+v", ops)
	}
	moment := recorder.Now()
	recorder.FenceAt(moment, []*Op{done, lost, aborted})
	ops, _ = recorder.Snapshot()
	if ops[0].Fence != ops[0].Return || ops[1].Fence != moment || ops[2].Fence >= moment {
		t.Errorf("%+v", ops)
	}
}

// A history as long as those of runs, with many unknown writes, is checked in reasonable time.
func TestLongHistoriesAreDecided(t *testing.T) {
	var ops []Op
	for n := int64(1); n <= 2000; n++ {
		at := n * 10
		if n%20 == 0 {
			ops = append(ops, repeated(unknown(n, at, at+5, Never), 2))
			if n%100 == 0 {
				ops = append(ops, read(n, at+7, at+8))
			}
			continue
		}
		ops = append(ops, repeated(write(n, at, at+15), 2), read(n, at+3, at+9))
	}
	begun := time.Now()
	if verdict := Judge(ops, nil, time.Minute, ""); !verdict.OK() {
		t.Errorf("%+v after %v", verdict, time.Since(begun))
	}
}
