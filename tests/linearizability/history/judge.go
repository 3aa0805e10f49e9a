// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Verdict on a complete history.
type Verdict struct {
	Blocks, Reads, Writes, Unknown int
	// Violations has a text for each block with a violation.
	Violations []string
	// Undecided lists the blocks that could not be checked in time.
	Undecided []Block
}

// OK returns true if every block was checked without a violation.
func (v *Verdict) OK() bool { return len(v.Violations) == 0 && len(v.Undecided) == 0 }

// Judge checks each block separately. `folder`, unless empty, gets an HTML page for each block that is not
// linearizable.
func Judge(ops []Op, strange []string, perBlock time.Duration, folder string) *Verdict {
	verdict := &Verdict{Violations: append([]string(nil), strange...)}
	blocks := map[Block][]Op{}
	for _, op := range ops {
		blocks[op.Block] = append(blocks[op.Block], op)
		switch {
		case op.Kind == Read:
			verdict.Reads++
		case op.Outcome == Unknown:
			verdict.Unknown++
		default:
			verdict.Writes++
		}
	}
	verdict.Blocks = len(blocks)
	for _, block := range sorted(blocks) {
		if invalid := unwritten(blocks[block]); invalid != "" {
			verdict.Violations = append(verdict.Violations, describe(block)+": "+invalid)
			continue
		}
		history := operations(blocks[block])
		result, info := porcupine.CheckOperationsVerbose(register, history, perBlock)
		switch result {
		case porcupine.Unknown:
			verdict.Undecided = append(verdict.Undecided, block)
		case porcupine.Illegal:
			text := describe(block) + ": not linearizable\n" + explain(blocks[block])
			if folder != "" {
				page := filepath.Join(folder, fmt.Sprintf("%s-%d.html", block.Disk, block.LBA))
				if err := porcupine.VisualizePath(register, info, page); err == nil {
					text += "\n  drawn in " + page
				}
			}
			verdict.Violations = append(verdict.Violations, text)
		}
	}
	return verdict
}

func describe(block Block) string { return fmt.Sprintf("block %d of %s", block.LBA, block.Disk) }

func sorted(blocks map[Block][]Op) []Block {
	var names []Block
	for block := range blocks {
		names = append(names, block)
	}
	sort.Slice(names, func(i, j int) bool {
		if names[i].Disk != names[j].Disk {
			return names[i].Disk < names[j].Disk
		}
		return names[i].LBA < names[j].LBA
	})
	return names
}

// unwritten finds a read of a value that was never written to this block.
func unwritten(ops []Op) string {
	written := map[int64]bool{0: true}
	for index := range ops {
		if ops[index].Kind == Write {
			written[ops[index].Value] = true
		}
	}
	for index := range ops {
		if ops[index].Kind == Read && !written[ops[index].Value] {
			return "a value that was not written there: " + ops[index].String()
		}
	}
	return ""
}

// explain returns operations that contradict each other. It is for the reader; the verdict does not depend on it.
func explain(ops []Op) string {
	sources := map[int64]*Op{}
	for index := range ops {
		if ops[index].Kind == Write {
			sources[ops[index].Value] = &ops[index]
		}
	}
	var found []string
	for index := range ops {
		read := &ops[index]
		if read.Kind != Read {
			continue
		}
		source := sources[read.Value]
		if newer := contradicts(ops, read, lastEffect(source)); newer != nil {
			text := "  " + read.String() + "\n  although newer: " + newer.String()
			if source != nil {
				text = "  late or stale: " + source.String() + "\n" + text
			}
			found = append(found, text)
		}
	}
	const shown = 3
	switch {
	case len(found) > shown:
		return strings.Join(found[:shown], "\n") + fmt.Sprintf("\n  and %d reads more like these", len(found)-shown)
	case len(found) > 0:
		return strings.Join(found, "\n")
	}
	return "  no two operations contradict each other by themselves; see the drawing"
}

// lastEffect returns the end of the time in which a write may take effect; the beginning for the initial value, nil.
func lastEffect(write *Op) int64 {
	switch {
	case write == nil:
		return 0
	case write.Outcome == Unknown:
		return write.Fence
	}
	return write.Return
}

// contradicts returns a write or read that shows another value after `end`, the last time at which the value that was
// read could be written, and before the read.
func contradicts(ops []Op, read *Op, end int64) *Op {
	for index := range ops {
		other := &ops[index]
		if other.Outcome == OK && other.Value != read.Value && other.Call > end && other.Return < read.Call {
			return other
		}
	}
	return nil
}
